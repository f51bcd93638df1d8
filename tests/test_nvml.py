"""NVML on machines that are not there: every value is a number with its source, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import fake_gpus
import pynvml
import pytest
from fake_gpus import GIB, MIB, Machine, gpu, memory, process

from fwmagic.errors import FwMagicError
from fwmagic.memory import device, nvml
from fwmagic.memory.nvml import Reading

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-11111111-2222-3333-4444-555555555555"
M = "MIG-99999999-8888-7777-6666-555555555555"
# A GPU of 80 GiB, of which the driver reserves 1 and processes use 9; its used does not count what is reserved.
USUAL = (gpu(A), memory(A, 80 * GIB, 1 * GIB, 70 * GIB, 9 * GIB))
NOT_A_PID = 2**30  # larger than any system allows


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a driver of today."""
    with Machine(tmp_path_factory.mktemp("machine")) as started:
        yield started


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose driver has neither version 2 of the memory information nor version 3 of the list."""
    with Machine(tmp_path_factory.mktemp("old"), fake_gpus.libraries("-DOLD")) as started:
        yield started


def read(machine: Machine, *lines: str, uuid: str | None = A, before: Reading | None = None) -> Reading:
    machine.set(*lines)
    reading = machine.ask("nvml.read(uuid, before)", uuid=uuid, before=before)
    check(reading)
    return reading


def check(reading: Reading) -> None:
    """Every value is a number with a source or none with a reason."""
    for figure in (reading.total, reading.used, reading.free, reading.reserved, reading.own):
        assert bool(figure.source) == (figure.bytes is not None)
        assert bool(figure.why) == (figure.bytes is None)
        assert (figure.bytes or 0) >= 0


def whole(reading: Reading) -> list[int | None]:
    return [reading.total.bytes, reading.used.bytes, reading.free.bytes, reading.reserved.bytes]


# What is read when all is well


def test_all_gpus_are_counted_also_one_that_a_cgroup_forbids(machine):
    machine.set(gpu(B, name="forbidden"), gpu(A))
    assert machine.ask("nvml.count()") == 2


def test_used_that_does_not_count_what_is_reserved_is_taken_as_it_is(machine):
    reading = read(machine, *USUAL)
    assert whole(reading) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]
    assert reading.used.source == "NVML's memory information, version 2"


def test_used_that_counts_what_is_reserved_is_lessened_by_it(machine):
    reading = read(machine, gpu(A), memory(A, 80 * GIB, 1 * GIB, 70 * GIB, 10 * GIB))
    assert whole(reading) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]
    assert reading.used.source == "NVML's memory information, version 2, less what the driver reserves"


@pytest.mark.parametrize("counted_in", [False, True])
def test_a_rounding_of_the_driver_does_not_hide_what_is_used(machine, counted_in):
    used = 9 * GIB + counted_in * GIB - MIB
    assert read(machine, gpu(A), memory(A, 80 * GIB, GIB, 70 * GIB, used)).used.bytes == 9 * GIB - MIB


def test_nothing_reserved_is_zero_and_not_unknown(machine):
    assert whole(read(machine, gpu(A), memory(A, 10, 0, 7, 3))) == [10, 3, 7, 0]


def test_this_process_is_read_from_the_list_of_those_that_compute(machine):
    others = [process(A, os.getpid(), 5 * GIB), process(A, 1, None)]
    reading = read(machine, *USUAL, *others, process(A, machine.pid, 2 * GIB))
    assert reading.own.bytes == 2 * GIB
    assert reading.own.source == f"NVML's list of processes on the device, PID {machine.pid}"


def test_a_process_that_also_draws_is_not_counted_twice(machine):
    lists = [process(A, machine.pid, 2 * GIB), process(A, machine.pid, 2 * GIB, kind="Graphics")]
    assert read(machine, *USUAL, *lists).own.bytes == 2 * GIB


def test_a_number_in_one_list_stands_where_the_other_has_none(machine):
    lists = [process(A, machine.pid, 2 * GIB), process(A, machine.pid, None, kind="Graphics")]
    assert read(machine, *USUAL, *lists).own.bytes == 2 * GIB
    lists = [process(A, machine.pid, None), process(A, machine.pid, 3 * GIB, kind="Graphics")]
    assert read(machine, *USUAL, *lists).own.bytes == 3 * GIB


def test_a_process_on_another_device_is_not_ours(machine):
    assert read(machine, *USUAL, gpu(B), process(B, machine.pid, GIB)).own.bytes is None


def test_an_instance_is_read_by_its_own_uuid(machine):
    lines = [gpu(A, mig=1), f"mig {A} {M} 3 0 MIG", memory(M, 10 * GIB, 0, 8 * GIB, 2 * GIB)]
    reading = read(machine, *lines, process(M, machine.pid, GIB), uuid=M)
    assert [*whole(reading), reading.own.bytes] == [10 * GIB, 2 * GIB, 8 * GIB, 0, GIB]


def test_a_device_is_read_by_its_uuid_whatever_its_index(machine):
    shuffled = [gpu(B), memory(B, 10, 0, 10, 0), *USUAL]
    assert whole(read(machine, *shuffled)) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]
    before = len(machine.calls())
    assert machine.ask("nvml.read(uuid)", uuid=A).total.bytes == 80 * GIB
    called = {function for _, function in machine.calls()[before:]}
    assert "nvmlDeviceGetHandleByUUID" in called
    assert "nvmlDeviceGetHandleByIndex_v2" not in called


@pytest.mark.parametrize(
    ("given", "found"),
    [(A, A), (A[4:], A), (f" {A[4:].upper()} ", A), (M, M), (M[4:], M)],
)
def test_a_uuid_is_found_with_and_without_its_prefix(machine, given, found):
    machine.set(gpu(A), gpu(B, mig=1), f"mig {B} {M} 3 0 MIG")
    assert machine.ask("nvml.find(given)", given=given) == found


# Faults


def fault(function: str, code: int) -> str:
    return f"fault {function} {code}"


V2 = "nvmlDeviceGetMemoryInfo_v2"
LIST = "nvmlDeviceGetComputeRunningProcesses_v3"
OF_DEVICE = {
    "permission": (fault(V2, 4), f"the driver does not let this user ask for it ({V2[:-3]}: Insufficient Permissions)"),
    "lost": (fault(V2, 15), f"the driver has lost the GPU ({V2[:-3]}: GPU is lost)"),
    "blocked": (fault(V2, 17), "the operating system does not let this process reach the GPU"),
    "unknown code": (fault(V2, 26), f"the driver does not answer ({V2[:-3]}: Deprecated)"),
    "lost when looked up": (fault("nvmlDeviceGetHandleByUUID", 15), "the driver has lost the GPU"),
    "other releases": (fault("nvmlDeviceGetHandleByUUID", 18), "the driver's library and its kernel module are of"),
}


@pytest.mark.parametrize(("line", "reason"), OF_DEVICE.values(), ids=OF_DEVICE)
def test_a_device_that_gives_no_memory_says_why(machine, line, reason):
    reading = read(machine, *USUAL, line)
    assert whole(reading) == [None] * 4
    assert all(reason in amount.why for amount in (reading.total, reading.used, reading.free, reading.reserved))


def test_a_device_without_memory_information_may_still_tell_of_this_process(machine):
    reading = read(machine, gpu(A), process(A, machine.pid, GIB))
    assert whole(reading) == [None] * 4
    assert "the driver does not support this for the device (nvmlDeviceGetMemoryInfo: Not Supported)" in (
        reading.total.why
    )
    assert reading.own.bytes == GIB


def test_a_device_that_shares_the_memory_of_the_host_has_no_total(machine):
    reading = read(machine, gpu(A), memory(A, 0, 0, 0, 0), process(A, machine.pid, GIB))
    assert whole(reading) == [None] * 4
    assert "shares the host's (NVML gives a total of 0)" in reading.total.why
    assert reading.own.bytes == GIB


@pytest.mark.parametrize(
    ("reserved", "free", "used"),
    [(GIB, 70 * GIB, 50 * GIB), (GIB, 70 * GIB, 1 * GIB), (GIB, 200 * GIB, 9 * GIB), (8 * GIB, 76 * GIB, 4 * GIB)],
)
def test_figures_that_do_not_add_up_give_no_use(machine, reserved, free, used):
    reading = read(machine, gpu(A), memory(A, 80 * GIB, reserved, free, used))
    assert reading.used.bytes is None
    assert f"(total {80 * GIB}, free {free}, reserved {reserved} and in use {used} bytes)" in reading.used.why
    assert reading.total.bytes == 80 * GIB


@pytest.mark.parametrize("code", [3, 13, 25])
def test_version_1_counts_what_is_reserved_and_says_so(machine, code):
    expect_version_1(read(machine, *USUAL, fault(V2, code)))


def test_a_library_without_version_2_is_asked_for_version_1(old):
    expect_version_1(read(old, *USUAL))


def expect_version_1(reading: Reading) -> None:
    assert whole(reading) == [80 * GIB, 10 * GIB, 70 * GIB, None]
    assert reading.used.source.endswith("version 1: what the driver reserves is counted in")
    assert "this release of the driver does not tell it apart" in reading.reserved.why


def test_a_library_without_version_3_is_asked_for_version_2_of_the_list(old):
    own = read(old, *USUAL, process(A, old.pid, GIB)).own
    # The oldest nvidia-ml-py that is supported has no version 2.
    if hasattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v2"):
        assert own.bytes == GIB
    else:
        assert "has no such function" in own.why


NO_NUMBER = {
    "host PIDs": ([process(A, NOT_A_PID, GIB)], "the driver lists processes by their PIDs outside it"),
    "PID of another": ([process(A, NOT_A_PID, GIB), "OWN 5"], "the driver lists processes by their PIDs outside it"),
    "not in the list": ([process(A, os.getpid(), GIB)], "the driver lists no process with the PID"),
    "empty list": ([], "the driver lists no process with the PID"),
    "no memory": (["OWN none"], "without its memory, as under WSL and for some MIG instances"),
    "corrupt size": (["OWN 5", process(A, 1, 81 * GIB)], f"is corrupt (PID 1 with {81 * GIB} bytes)"),
    "corrupt PID": (["OWN 5", process(A, 0, os.getpid())], "is corrupt (PID 0 with"),
    "corrupt large PID": (["OWN 5", process(A, 2**32 - 1, 0)], f"is corrupt (PID {2**32 - 1} with 0 bytes)"),
    "no permission": (["OWN 5", fault(LIST, 4)], f"let this user ask for it ({LIST}: Insufficient Permissions)"),
    "not supported": (["OWN 5", fault(LIST, 3)], f"does not support this for the device ({LIST}: Not Supported)"),
    "lost": (["OWN 5", fault(LIST, 15)], f"the driver has lost the GPU ({LIST}: GPU is lost)"),
}


def scenario(machine: Machine, lines: list[str]) -> list[str]:
    """Put the PID of the machine's process in."""
    return [process(A, machine.pid, None if line == "OWN none" else 5) if "OWN" in line else line for line in lines]


@pytest.mark.parametrize(("lines", "reason"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_where_the_driver_does_not_tell_of_this_process_the_reason_is_given(machine, lines, reason):
    reading = read(machine, *USUAL, *scenario(machine, lines))
    assert reading.own.bytes is None
    assert reason in reading.own.why
    assert whole(reading) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]


@pytest.mark.parametrize(("lines", "reason"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_where_the_driver_does_not_tell_of_this_process_the_difference_stands_for_it(machine, lines, reason):
    before = read(machine, *USUAL)
    later = (gpu(A), memory(A, 80 * GIB, 1 * GIB, 67 * GIB, 12 * GIB))
    own = read(machine, *later, *scenario(machine, lines), before=before).own
    assert own.bytes == 3 * GIB
    assert own.source.startswith("difference of the whole device since the reading before; other processes may have")
    assert reason in own.source


def test_a_number_from_the_list_is_better_than_the_difference(machine):
    before = read(machine, *USUAL)
    own = read(machine, *USUAL, process(A, machine.pid, 2 * GIB), before=before).own
    assert own.bytes == 2 * GIB
    assert "difference" not in own.source


def test_a_negative_difference_is_not_a_number(machine):
    before = read(machine, *USUAL)
    own = read(machine, gpu(A), memory(A, 80 * GIB, 1 * GIB, 75 * GIB, 4 * GIB), before=before).own
    assert own.bytes is None
    assert own.why.endswith(f"the whole device uses {5 * GIB} bytes less than before")


def test_there_is_no_difference_to_what_was_not_read(machine):
    before = read(machine, *USUAL, fault(V2, 4))
    own = read(machine, *USUAL, before=before).own
    assert own.bytes is None
    assert own.why.endswith("the use of the whole device is not known at both moments")


@pytest.mark.parametrize("lines", [[gpu(A), memory(A, 40 * GIB, 0, 30 * GIB, 10 * GIB)], [*USUAL, fault(V2, 13)]])
def test_there_is_no_difference_to_another_device_or_by_another_method(machine, lines):
    before = read(machine, *lines)
    own = read(machine, *USUAL, before=before).own
    assert own.bytes is None
    assert own.why.endswith("the reading before is not of the same device by the same method")


def test_a_process_that_ends_between_two_calls_is_not_taken_for_one_outside(machine):
    vanishing = process(A, NOT_A_PID, GIB, when="once")
    assert read(machine, *USUAL, process(A, machine.pid, GIB), vanishing).own.bytes == GIB


def test_a_process_of_another_user_is_not_taken_for_one_outside(monkeypatch):
    def forbid(pid: int, signal: int) -> None:
        raise PermissionError(pid, signal)

    monkeypatch.setattr(os, "kill", forbid)
    assert nvml._exists(os.getppid())


def test_a_list_of_those_that_draw_is_not_needed(machine):
    line = fault("nvmlDeviceGetGraphicsRunningProcesses_v3", 3)
    assert read(machine, *USUAL, process(A, machine.pid, GIB), line).own.bytes == GIB


def test_a_device_that_has_vanished_says_so(machine):
    reading = read(machine, gpu(B), before=read(machine, *USUAL))
    assert whole(reading) == [None] * 4
    assert reading.own.why == "the driver knows no such device (nvmlDeviceGetHandleByUUID: Not Found)"


def test_an_unknown_device_is_not_read(machine):
    reading = read(machine, *USUAL, uuid=None)
    assert {figure.why for figure in (reading.total, reading.used, reading.own)} == {"device unknown"}


@pytest.mark.parametrize(
    ("lines", "given", "message"),
    [
        ([gpu(A)], B, f"NVML knows no device with the UUID {B}"),
        ([gpu(A)], B[4:], f"NVML knows no device with the UUID {B[4:]}"),
        ([gpu(A)], "", "NVML knows no device with the UUID "),
        ([gpu(A, mig=1)], A, f"{A} is in MIG mode, and which of its instances is meant is not known"),
        ([gpu(A), fault("nvmlDeviceGetHandleByUUID", 15)], A, "the driver has lost the GPU"),
    ],
)
def test_a_uuid_that_is_not_found_says_why(machine, lines, given, message):
    machine.set(*lines)
    with pytest.raises(FwMagicError, match=f"^{message}"):
        machine.ask("nvml.find(given)", given=given)


# The driver as a whole


def test_without_a_driver_there_is_a_sentence(tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    with Machine(tmp_path, library=tmp_path) as machine:
        reading = read(machine)
        assert reading.own.why == "the NVIDIA driver's library libnvidia-ml.so.1 was not found"
        with pytest.raises(FwMagicError, match=r"^the NVIDIA driver's library libnvidia-ml\.so\.1 was not found"):
            machine.ask("nvml.count()")


def test_a_driver_that_is_not_loaded_is_asked_again_later(tmp_path):
    with Machine(tmp_path) as machine:
        reading = read(machine, *USUAL, fault("nvmlInitWithFlags", 9))
        assert whole(reading) == [None] * 4
        assert reading.total.why == "the NVIDIA driver is not loaded"
        machine.set(fault("nvmlInitWithFlags", 4))
        with pytest.raises(FwMagicError, match=r"not let this user ask for it \(nvmlInit: Insufficient Permissions\)"):
            machine.ask("nvml.count()")
        assert whole(read(machine, *USUAL)) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]


@pytest.mark.parametrize(
    ("module", "reason"),
    [("None", "the package nvidia-ml-py is not installed"), ("os", "is not that of the package nvidia-ml-py")],
)
def test_without_its_package_there_is_a_sentence(tmp_path, module, reason):
    with Machine(tmp_path) as machine:
        machine.ask(f"sys.modules.update(pynvml={module})")
        assert reason in read(machine, *USUAL).total.why


def test_nvml_that_other_code_has_shut_down_is_a_sentence(tmp_path):
    with Machine(tmp_path) as machine:
        assert read(machine, *USUAL).total.bytes == 80 * GIB
        machine.ask("__import__('pynvml').nvmlShutdown()")
        assert "other code in this process has shut NVML down" in read(machine, *USUAL).total.why


def test_nvml_is_initialised_by_the_first_call_and_shut_down_at_the_end(tmp_path):
    with Machine(tmp_path) as machine:
        machine.set(*USUAL)
        assert machine.ask("nvml.read(None), device.SEGMENTS")  # all modules are imported
        assert machine.calls() == []
        for _ in range(3):
            machine.ask("nvml.count(), nvml.read(uuid)", uuid=A)
        assert count(machine, "nvmlInitWithFlags") == 1
        assert count(machine, "nvmlShutdown") == 0
    assert count(machine, "nvmlShutdown") == 1
    assert machine.calls()[-1] == (machine.pid, "nvmlShutdown")


def test_a_process_that_does_not_use_nvml_does_not_shut_it_down(tmp_path):
    with Machine(tmp_path) as machine:
        assert machine.ask("nvml.read(None)")
    assert machine.calls() == []


@pytest.mark.parametrize("uses", [False, True])
def test_a_fork_initialises_anew_and_leaves_its_parent_alone(tmp_path, uses):
    with Machine(tmp_path) as machine:
        machine.set(*USUAL)
        assert machine.ask("nvml.count()")
        assert machine.ask("forked('nvml.count()' if uses else 'None')", uses=uses) == 0
        started = [pid for pid, function in machine.calls() if function == "nvmlInitWithFlags"]
        ended = [pid for pid, function in machine.calls() if function == "nvmlShutdown"]
        assert len(started) == 1 + uses
        assert started[0] == machine.pid
        assert ended == started[1:]
        assert whole(read(machine, *USUAL)) == [80 * GIB, 9 * GIB, 70 * GIB, 1 * GIB]


def count(machine: Machine, function: str) -> int:
    return sum(called == function for _, called in machine.calls())


# A real device


@pytest.mark.gpu
def test_a_real_device_is_identified_and_its_memory_adds_up():
    import torch

    reported = str(torch.cuda.get_device_properties(0).uuid)
    uuid, source = device.identify(0, reported)
    assert uuid is not None, source
    assert uuid.endswith(reported)
    before = nvml.read(uuid)
    held = torch.ones(256 * MIB, dtype=torch.uint8, device="cuda:0")
    torch.cuda.synchronize()
    after = nvml.read(uuid, before)
    for reading in (before, after):
        check(reading)
        if None not in whole(reading):
            total, *parts = whole(reading)
            assert abs(total - sum(parts)) <= 16 * MIB
    # CUDA itself names the same device as torch, and the driver or the difference sees what was allocated.
    assert device.identify(0, None)[0] == uuid
    assert device.uuid_of(0) == reported
    assert after.own.bytes is not None, after.own.why
    assert after.own.bytes >= 256 * MIB
    del held
