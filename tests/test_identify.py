"""A CUDA ordinal is never taken for the wrong device, in whatever order NVML and CUDA list the GPUs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import fake_gpus
import pytest
from fake_gpus import Machine, gpu

from fwmagic.memory import device

UUIDS = {
    "A": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "B": "GPU-8932f9aa-0000-1111-2222-333333333333",
    "C": "GPU-1e104a6b-9f00-11ee-be56-0242ac120002",
    "D": "GPU-d0a1b2c3-4444-5555-6666-777777777777",
    "m": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
    "n": "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
}
LETTERS = {uuid: letter for letter, uuid in UUIDS.items()} | {None: "?"}
BUS_IDS = {"A": "00000000:C1:00.0", "B": "00000000:0a:00.0", "C": "00010000:05:00.0", "D": "0000:9F:00.0"}
ALL_ORDERS = list(itertools.permutations("ABCD"))


def state(order: Sequence[str], with_mig: bool) -> list[str]:
    """Return the state of the driver whose order of the GPUs is this one."""
    lines = [gpu(UUIDS[letter], BUS_IDS[letter], int(with_mig and letter == "D")) for letter in order]
    if with_mig:
        lines += [f"mig {UUIDS['D']} {UUIDS[letter]} {place} 0 MIG" for letter, place in (("m", 1), ("n", 2))]
    return lines


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("machine")) as started:
        yield started


@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
def test_cuda_is_asked_what_its_ordinals_mean(machine, order):
    for seen in ("BDAC", "CADB", "CD", "B"):
        machine.set(*state(order, False), cuda=[UUIDS[letter] for letter in seen])
        asked = f"[device.identify(ordinal, None) for ordinal in range({len(seen)})]"
        answers = machine.ask(asked)
        assert "".join(LETTERS[uuid] for uuid, _ in answers) == seen
        last = len(seen) - 1
        assert answers[-1][1] == f"CUDA's driver library gives the UUID of the device with the ordinal {last}"


@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
@pytest.mark.parametrize("spelled", [str, lambda uuid: uuid[4:], lambda uuid: uuid[4:].upper()])
def test_the_framework_is_believed_before_cuda(machine, order, spelled):
    machine.set(*state(order, True), cuda=[UUIDS["C"]] * 4)
    for letter in "ABCmn":
        reported = spelled(UUIDS[letter])
        uuid, sentence = machine.ask("device.identify(0, reported)", reported=reported)
        assert LETTERS[uuid] == letter
        assert sentence == "the framework gives the UUID of its device"


def test_a_device_that_neither_of_them_names_is_unknown(machine):
    machine.set(*state("ABCD", False))
    assert machine.ask("device.identify(1, None)") == (
        None,
        "device unknown: CUDA's driver library does not name the device with the ordinal 1",
    )


def test_a_uuid_that_nvml_does_not_know_is_unknown(machine):
    machine.set(*state("ABC", False), cuda=[UUIDS["D"], UUIDS["A"]])
    uuid, sentence = machine.ask("device.identify(1, reported)", reported=UUIDS["D"][4:])
    assert (uuid, sentence) == (None, f"device unknown: NVML knows no device with the UUID {UUIDS['D'][4:]}")
    uuid, sentence = machine.ask("device.identify(0, None)")
    assert (uuid, sentence) == (None, f"device unknown: NVML knows no device with the UUID {UUIDS['D'][4:]}")


def test_a_gpu_in_mig_mode_is_not_the_device_of_a_process(machine):
    machine.set(*state("ABCD", True), cuda=[UUIDS["D"]])
    for asked in ("device.identify(0, None)", f"device.identify(0, {UUIDS['D'][4:]!r})"):
        uuid, sentence = machine.ask(asked)
        assert uuid is None
        assert (
            sentence == f"device unknown: {UUIDS['D']} is in MIG mode, and which of its instances is meant is not known"
        )


def test_a_gpu_of_which_the_mode_cannot_be_read_may_be_in_mig_mode(machine):
    machine.set(gpu(UUIDS["A"], mig=0), "fault nvmlDeviceGetMigMode 999")
    _, sentence = machine.ask("device.identify(0, reported)", reported=UUIDS["A"])
    assert "is in MIG mode" in sentence


def test_without_any_library_every_device_is_unknown(tmp_path):
    for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
        (tmp_path / name).write_text("not a library")
    with Machine(tmp_path, library=tmp_path) as bare:
        assert bare.ask("device.uuid_of(0)") is None
        uuid, sentence = bare.ask("device.identify(0, reported)", reported=UUIDS["A"])
        assert uuid is None
        assert sentence.startswith("device unknown: the NVIDIA driver's library libnvidia-ml.so.1 was not found")


def test_cuda_answers_for_its_own_ordinals_only(machine):
    machine.set(cuda=[UUIDS["A"], UUIDS["m"]])
    assert [machine.ask(f"device.uuid_of({ordinal})") for ordinal in (0, 1, 2, -1)] == [
        UUIDS["A"][4:],
        UUIDS["m"][4:],
        None,
        None,
    ]
    machine.set(cuda=[UUIDS["A"]], init=3)
    assert machine.ask("device.uuid_of(0)") is None


def test_an_old_cuda_is_asked_by_its_own_function(tmp_path):
    with Machine(tmp_path, fake_gpus.libraries("-DOLD")) as old:
        old.set(cuda=[UUIDS["B"]])
        assert old.ask("device.uuid_of(0)") == UUIDS["B"][4:]


def test_a_library_that_is_not_cuda_does_not_answer(monkeypatch):
    monkeypatch.setattr(device, "_LIBRARY", str(fake_gpus.libraries() / "libnvidia-ml.so.1"))
    assert device.uuid_of(0) is None
