"""PyTorch's answers: devices, arrays and settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import get

TORCH = get("torch")
no_gpu = pytest.mark.usefixtures("_no_gpu")


@pytest.fixture
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@no_gpu
class TestDevice:
    def test_it_is_told(self):
        assert TORCH.device(None) == TORCH.device("cpu") == "cpu"

    @pytest.mark.parametrize("wanted", ["cuda", "gpu", "cuda:0", "gpu:1"])
    def test_one_that_is_not_here(self, wanted):
        with pytest.raises(FwMagicError, match=f"--device {wanted}: torch sees no CUDA device here; use --device cpu"):
            TORCH.device(wanted)

    @pytest.mark.parametrize("wanted", ["tpu9", "nonsense", "cpu:x"])
    def test_no_device(self, wanted):
        with pytest.raises(FwMagicError, match=f"--device {wanted}"):
            TORCH.device(wanted)

    def test_a_number_that_is_not_here(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(FwMagicError, match=r"--device cuda:2: torch sees 2 CUDA device\(s\) here"):
            TORCH.device("cuda:2")
        with pytest.raises(FwMagicError, match=r"--device cuda:x"):
            TORCH.device("cuda:x")

    def test_new_tensors_are_made_there(self):
        with TORCH.on_device("meta"):
            assert torch.ones(1).device.type == "meta"
        with TORCH.on_device(None):
            assert torch.ones(1).device.type == "cpu"

    def test_on_a_cpu_nothing_is_waited_for(self):
        assert TORCH.waiter(torch.ones(1)) is None
        TORCH.drain()


def test_where_there_is_a_device_it_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append(1))
    TORCH.drain()
    assert waited == [1]
    assert TORCH.waiter(torch.ones(1)) is torch.accelerator.synchronize


class TestArrays:
    def test_from_numpy_is_a_private_copy(self):
        array = np.arange(3.0)
        tensor = TORCH.from_numpy(array, "cpu")
        array[0] = 9
        assert (tensor.tolist(), tensor.dtype) == ([0, 1, 2], torch.float64)

    @pytest.mark.parametrize(
        ("tensor", "values"),
        [
            (torch.ones(2, dtype=torch.bfloat16), [1, 1]),
            (torch.ones(2, requires_grad=True) * 2, [2, 2]),
            (torch.eye(2).to_sparse(), [[1, 0], [0, 1]]),
            (torch.tensor([1 + 2j]).conj(), [1 - 2j]),
            (torch.tensor([1 + 2j]).conj().imag, [-2]),
        ],
    )
    def test_back_to_numpy(self, tensor, values):
        assert TORCH.to_numpy(tensor).tolist() == values

    def test_what_is_frozen(self):
        for value in (torch.zeros(1, requires_grad=True) * 1, np.zeros(1)):
            copy = TORCH.frozen(value)
            with torch.no_grad():
                value += 1
            assert copy == 0
            assert not getattr(copy, "requires_grad", False)
        assert TORCH.frozen("text") is None


def test_eager_runs_what_the_user_compiled_as_python():
    seen = []

    @torch.compile
    def function(x):
        seen.append(torch.compiler.is_compiling())
        return x

    with TORCH.eager():
        function(torch.ones(1))
    assert seen == [False]


def test_settings_and_versions_are_words(monkeypatch):
    assert TORCH.settings()["torch.grad"] == "on"
    with torch.no_grad():
        assert TORCH.settings()["torch.grad"] == "off"
    assert TORCH.settings()["torch.default_dtype"] == "float32"
    assert TORCH.version()["torch"] == torch.__version__
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    assert TORCH.version()["cuda"] == "12.4"
    assert TORCH.threads().startswith(f"{torch.get_num_threads()} intra-op")
