"""Which device CUDA itself means by an ordinal: the CUDA driver library, asked without a framework."""

from __future__ import annotations

import ctypes
import uuid

_LIBRARY = "libcuda.so.1"


def uuid_of(ordinal: int) -> str | None:
    """Return the UUID of the device with an ordinal in this process, without a prefix as torch has it.

    None: there is no CUDA driver library, or it fails. The functions are those of NVIDIA's CUDA Driver API
    (Initialization, Device Management); the second version of `cuDeviceGetUuid` gives the UUID of a MIG instance,
    the first one that of its GPU. Ask only where CUDA is used anyway: `cuInit` fixes the visible devices for good,
    and after it a fork of this process cannot use CUDA.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
        initialise, get = library.cuInit, library.cuDeviceGet
    except (OSError, AttributeError):
        return None
    device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    if initialise(0) != 0 or get(ctypes.byref(device), ordinal) != 0:
        return None
    for name in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid"):
        function = getattr(library, name, None)
        if function is not None and function(ctypes.byref(raw), device) == 0:
            return str(uuid.UUID(bytes=bytes(raw)))
    return None
