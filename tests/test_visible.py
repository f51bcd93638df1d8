"""CUDA's ordinals are never taken for the wrong device, in whatever order NVML, PCI and CUDA list the GPUs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import fake_gpus
import pytest
from fake_gpus import Machine, gpu
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.memory import device
from fwmagic.memory.device import uuids
from fwmagic.memory.nvml import Card

UUIDS = {
    "A": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "B": "GPU-8932f9aa-0000-1111-2222-333333333333",
    "C": "GPU-1e104a6b-9f00-11ee-be56-0242ac120002",
    "D": "GPU-d0a1b2c3-4444-5555-6666-777777777777",
    "m": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
    "n": "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
}
LETTERS = {uuid: letter for letter, uuid in UUIDS.items()} | {None: "?"}
# By PCI bus id, the domain before the bus, in hexadecimal: B D A C. As text, or without the domain, it is another.
BUS_IDS = {"A": "00000000:C1:00.0", "B": "00000000:0a:00.0", "C": "00010000:05:00.0", "D": "0000:9F:00.0"}
FASTEST_FIRST = "CADB"
PCI = "BDAC"

# CUDA_VISIBLE_DEVICES, and what CUDA's ordinals 0, 1, ... are if CUDA_DEVICE_ORDER is PCI_BUS_ID, and if it is not
# set; ? is unknown. {A} is A's UUID.
WHOLE_GPUS = [
    # not set, and none
    (None, "BDAC", "????"),
    ("", "", ""),
    ("-1", "", ""),
    ("NoDevFiles", "", ""),
    # indices
    ("0", "B", "?"),
    ("3", "C", "?"),
    ("1,3", "DC", "??"),
    ("3,1", "CD", "??"),
    ("0,1,2,3", "BDAC", "????"),
    ("3,2,1,0", "CADB", "????"),
    (" 1 ,\t3 ", "DC", "??"),
    ("+1,-0", "DB", "??"),
    # an invalid one ends the list
    ("4", "", ""),
    ("2,4,0", "A", "?"),
    ("0,2,-1,1", "BA", "??"),
    ("2,,0", "A", "?"),
    (",0", "", ""),
    ("0,", "B", "?"),
    ("one,1", "", ""),
    ("3,one,1", "C", "?"),
    ("99999999999999999999,0", "", ""),
    # what follows the digits does not matter, unless it may belong to them
    ("1gpu2,2ampere", "DA", "??"),
    ("0-2", "B", "?"),
    ("1e104a6b-9f00-11ee-be56-0242ac120002", "D", "?"),
    ("0x1,2", "?A", "??"),
    ("01", "?", "?"),
    # twice the same
    ("0,0", "", ""),
    ("1,2,+1", "", ""),
    ("1,-1,1", "D", "?"),
    # UUIDs and beginnings of them
    ("{A}", "A", "A"),
    ("{D},{A},{C},{B}", "DACB", "DACB"),
    (" {C} , {A} ", "CA", "CA"),
    ("GPU-1e,GPU-d", "CD", "CD"),
    ("GPU-8932f937", "A", "A"),
    ("GPU-8932f9a,GPU-8932f93", "BA", "BA"),
    ("GPU-8932f9", "", ""),
    ("GPU-", "", ""),
    ("GPU-1,GPU-8932f9,GPU-d", "C", "C"),
    ("GPU-ffffffff,{A}", "", ""),
    ("{A},GPU-ffffffff,{B}", "A", "A"),
    ("{A}0", "", ""),
    ("{A},{A}", "", ""),
    ("{A},GPU-d,GPU-8932f937", "", ""),
    ("{A},-1,{A}", "A", "A"),
    # another kind ends the list
    ("{A},0", "A", "A"),
    ("{A},0,{B}", "A", "A"),
    ("0,{A}", "B", "?"),
    ("0,{A},1", "B", "?"),
    # no instance is there
    ("{m}", "", ""),
    ("MIG-{A}/1/0", "", ""),
    ("{A},{m}", "A", "A"),
]

# The same where D is in MIG mode and has two instances: m, of GPU instance 1, and n, of GPU instance 2.
WITH_MIG = [
    (None, "????", "????"),
    ("", "", ""),
    ("-1", "", ""),
    # A whole GPU by its UUID is what it is. What an index counts, beside GPUs in MIG mode, is not documented.
    ("0", "?", "?"),
    ("0,2", "??", "??"),
    ("4", "", ""),
    ("0,0", "", ""),
    ("{C},{A}", "CA", "CA"),
    ("GPU-1e", "C", "C"),
    ("{D}", "?", "?"),
    ("{A},GPU-d", "??", "??"),
    ("GPU-d,{A}", "??", "??"),
    ("{A},-1,{D}", "A", "A"),
    # an instance, by its UUID or the ids of its GPU instance and compute instance
    ("{m}", "m", "m"),
    (" {n} ", "n", "n"),
    ("MIG-c6d4", "m", "m"),
    ("MIG-c", "", ""),
    ("MIG-{D}/1/0", "m", "m"),
    ("MIG-GPU-d0/2/0", "n", "n"),
    ("MIG-{D}/1/1", "", ""),
    ("MIG-{A}/1/0", "", ""),
    ("MIG-GPU-8932f9/1/0", "", ""),
    ("MIG-{D}/1", "", ""),
    ("{m},-1,{n}", "m", "m"),
    ("{m},nothing", "m", "m"),
    # beside others, releases of the driver enumerate different devices
    ("{m},{n}", "??", "??"),
    ("{m},MIG-{D}/1/0", "??", "??"),
    ("{m},{A}", "??", "??"),
    ("{A},{m}", "??", "??"),
    ("0,{m}", "??", "??"),
    ("MIG-ffff,{m}", "", ""),
]


def test_the_three_orders_differ():
    numeric = sorted(BUS_IDS, key=lambda letter: [int(part, 16) for part in BUS_IDS[letter].split(".")[0].split(":")])
    assert "".join(numeric) == PCI
    assert len({PCI, FASTEST_FIRST, "".join(sorted(BUS_IDS, key=lambda letter: BUS_IDS[letter]))}) == 3


def machine_state(order: Sequence[str], with_mig: bool) -> list[str]:
    """Return the state of the driver whose order of the GPUs is this one."""
    lines = [gpu(UUIDS[letter], BUS_IDS[letter], int(with_mig and letter == "D")) for letter in order]
    if with_mig:
        lines += [f"mig {UUIDS['D']} {UUIDS[letter]} {place} 0 MIG" for letter, place in (("m", 1), ("n", 2))]
    return lines


def environment(value: str | None, order: str | None) -> dict[str, str]:
    return environment_as_is(value and value.format(**UUIDS), order)


def environment_as_is(value: str | None, order: str | None) -> dict[str, str]:
    spelled = {"CUDA_VISIBLE_DEVICES": value, "CUDA_DEVICE_ORDER": order}
    return {name: given for name, given in spelled.items() if given is not None}


def letters(found: Sequence[str | None]) -> str:
    return "".join(LETTERS[uuid] for uuid in found)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("machine")) as started:
        yield started


ALL_ORDERS = list(itertools.permutations("ABCD"))


@pytest.mark.parametrize("with_mig", [False, True], ids=["whole GPUs", "MIG"])
@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
def test_every_spelling_means_the_same_devices_whatever_the_order_of_nvml(machine, order, with_mig):
    machine.set(*machine_state(order, with_mig))
    cards = machine.ask("nvml.cards()")
    assert "".join(LETTERS[card.uuid] for card in cards if card.uuid.startswith("GPU-")) == "".join(order)
    assert len(cards) == 4 + 2 * with_mig
    for value, by_bus_id, by_speed in WITH_MIG if with_mig else WHOLE_GPUS:
        found = {
            name: letters(uuids(environment(value, name), cards)) for name in ("PCI_BUS_ID", "FASTEST_FIRST", None)
        }
        expected = {"PCI_BUS_ID": by_bus_id, "FASTEST_FIRST": by_speed, None: by_speed}
        assert found == expected, f"CUDA_VISIBLE_DEVICES={value!r}"


# One GPU, an order that is not known, and what hides it


def card(letter: str, bus_id: str | None = None) -> Card:
    return Card(UUIDS[letter], "a GPU", bus_id or BUS_IDS[letter], 0)


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST", "PCI_BUS_ID", "anything"])
def test_one_gpu_is_the_only_one_in_any_order(order):
    assert letters(uuids(environment(None, order), [card("A")])) == "A"
    assert letters(uuids(environment("0", order), [card("A")])) == "A"
    assert letters(uuids(environment("1", order), [card("A")])) == ""


@pytest.mark.parametrize("value", [None, "", "0", "GPU-1"])
def test_where_there_is_no_gpu_there_is_no_ordinal(value):
    assert uuids(environment(value, "PCI_BUS_ID"), []) == ()


@pytest.mark.parametrize("order", ["pci_bus_id", "PCI_BUS_ID ", "", "FASTEST_FIRST"])
def test_an_order_that_is_not_spelled_as_documented_is_not_known(order):
    assert letters(uuids(environment(None, order), [card("A"), card("B")])) == "??"


@pytest.mark.parametrize("bus_ids", [("00000000:01:00.0", "somewhere"), ("0000:01:00.0", "00000000:01:00.0")])
def test_bus_ids_that_give_no_order_give_none(bus_ids):
    cards = [card(letter, bus_id) for letter, bus_id in zip("AB", bus_ids, strict=True)]
    assert letters(uuids(environment("1", "PCI_BUS_ID"), cards)) == "?"
    assert letters(uuids(environment("{B}", "PCI_BUS_ID"), cards)) == "B"


def test_a_client_of_a_multi_process_service_has_indices_of_its_server():
    environ = environment("1", "PCI_BUS_ID") | {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/nvidia-mps"}
    assert letters(uuids(environ, [card("A"), card("B")])) == "?"
    assert letters(uuids(environ | {"CUDA_VISIBLE_DEVICES": UUIDS["B"]}, [card("A"), card("B")])) == "B"


def test_an_instance_of_an_old_driver_is_named_by_its_ids():
    instance = Card(f"MIG-{UUIDS['D']}/1/0", "MIG", BUS_IDS["D"], 0)
    cards = [Card(UUIDS["D"], "a GPU", BUS_IDS["D"], 0, partitioned=True), instance]
    assert uuids(environment("MIG-{D}/1/0", None), cards) == (instance.uuid,)


# identify: the framework, else CUDA, else the environment


def identified(
    machine: Machine, ordinals: Sequence[int], value: str | None, order: str | None
) -> list[tuple[str, str]]:
    """Return the letter and the sentence for each ordinal, in a process that has this environment."""
    asked = "[device.identify(ordinal, None, os.environ) for ordinal in ordinals]"
    answers = machine.ask(asked.replace("ordinals", str(list(ordinals))), environ=environment(value, order))
    return [(LETTERS[uuid], sentence) for uuid, sentence in answers]


@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
def test_cuda_is_believed_before_the_environment(machine, order):
    for spelled, in_order in (("PCI_BUS_ID", PCI), (None, FASTEST_FIRST)):
        seen = in_order[3] + in_order[1]
        machine.set(*machine_state(order, False), cuda=[UUIDS[letter] for letter in seen])
        answers = identified(machine, range(2), "3,1", spelled)
        assert "".join(letter for letter, _ in answers) == seen
        assert answers[1][1] == "CUDA's driver library gives the UUID of the device with the ordinal 1"


@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
def test_where_cuda_does_not_answer_the_environment_does(machine, order):
    machine.set(*machine_state(order, False))
    answers = identified(machine, range(-1, 3), "3,1", "PCI_BUS_ID")
    assert "".join(letter for letter, _ in answers) == "?CD?"
    said = "CUDA_VISIBLE_DEVICES = '3,1' and CUDA_DEVICE_ORDER = 'PCI_BUS_ID'"
    assert answers[0][1] == f"device unknown: by {said} there is no device with the CUDA ordinal -1"
    assert answers[1][1] == f"{said} say which GPU has the CUDA ordinal 0"
    assert answers[3][1] == f"device unknown: by {said} there is no device with the CUDA ordinal 2"
    answers = identified(machine, range(2), "3,1", None)
    assert "".join(letter for letter, _ in answers) == "??"
    said = "CUDA_VISIBLE_DEVICES = '3,1' and CUDA_DEVICE_ORDER (not set)"
    assert answers[0][1] == f"device unknown: {said} do not say which GPU has the CUDA ordinal 0"


def test_cuda_is_not_asked_for_another_process(machine):
    machine.set(*machine_state("ABCD", False), cuda=[UUIDS["A"]])
    asked = "device.identify(0, None, environ_of_another)"
    for other, expected in ((environment("{C}", None), "C"), (environment("0", "PCI_BUS_ID"), "B")):
        uuid, sentence = machine.ask(asked, environ=environment("{A}", None), environ_of_another=other)
        assert (LETTERS[uuid], "CUDA's driver library" in sentence) == (expected, False)
    uuid, _ = machine.ask(asked, environ=environment("{A}", None), environ_of_another=environment("{A}", None))
    assert LETTERS[uuid] == "A"


@pytest.mark.parametrize("order", ALL_ORDERS, ids="".join)
@pytest.mark.parametrize("spelled", [str, lambda uuid: uuid[4:], lambda uuid: uuid[4:].upper()])
def test_the_framework_is_believed_before_cuda(machine, order, spelled):
    machine.set(*machine_state(order, True), cuda=[UUIDS["C"]] * 4)
    for letter in "ABCmn":
        reported = spelled(UUIDS[letter])
        uuid, sentence = machine.ask("device.identify(0, reported, os.environ)", reported=reported)
        assert LETTERS[uuid] == letter
        assert sentence == "the framework gives the UUID of its device"


def test_a_uuid_that_nvml_does_not_know_is_unknown(machine):
    machine.set(*machine_state("ABC", False), cuda=[UUIDS["D"], UUIDS["A"]])
    uuid, sentence = machine.ask("device.identify(1, reported, os.environ)", reported=UUIDS["D"][4:])
    assert (uuid, sentence) == (None, f"device unknown: NVML knows no device with the UUID {UUIDS['D'][4:]}")
    ((letter, sentence),) = identified(machine, [0], None, None)
    assert letter == "?"
    assert sentence == f"device unknown: NVML knows no device with the UUID {UUIDS['D'][4:]}"


def test_a_gpu_in_mig_mode_is_not_the_device_of_a_process(machine):
    machine.set(*machine_state("ABCD", True), cuda=[UUIDS["D"]])
    for asked in ("device.identify(0, None, os.environ)", f"device.identify(0, {UUIDS['D'][4:]!r}, os.environ)"):
        uuid, sentence = machine.ask(asked)
        assert uuid is None
        assert (
            sentence == f"device unknown: {UUIDS['D']} is in MIG mode, and which of its instances is meant is not known"
        )


def test_a_gpu_that_this_user_may_not_see_leaves_the_others_unknown(machine):
    machine.set(*machine_state("ABC", False), gpu(UUIDS["D"], BUS_IDS["D"], name="forbidden"))
    ((letter, sentence),) = identified(machine, [0], "2", "PCI_BUS_ID")
    assert (letter, sentence) == ("?", "device unknown: the driver does not let this user see 1 of 4 GPUs")


def test_without_any_library_every_device_is_unknown(tmp_path):
    for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
        (tmp_path / name).write_text("not a library")
    with Machine(tmp_path, library=tmp_path) as bare:
        assert bare.ask("device.uuid_of(0)") is None
        for reported in (None, UUIDS["A"]):
            uuid, sentence = bare.ask("device.identify(0, reported, os.environ)", reported=reported)
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


def test_a_library_that_is_not_cuda_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "_LIBRARY", str(fake_gpus.libraries() / "libnvidia-ml.so.1"))
    assert device.uuid_of(0) is None


# Whatever is written there

TOKENS = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "4", "-1", "+1", "", " ", "0x1", "GPU-", "MIG-", "GPU-8932f9", "one", "10"]),
    st.sampled_from(sorted(UUIDS.values())),
    st.sampled_from(sorted(UUIDS.values())).flatmap(lambda uuid: st.integers(4, 40).map(lambda n: uuid[:n])),
    st.sampled_from("12").map(lambda place: f"MIG-{UUIDS['D']}/{place}/0"),
    st.text(max_size=6),
)
VALUES = st.none() | st.lists(TOKENS, max_size=6).map(",".join)
ORDERS = st.sampled_from([None, "PCI_BUS_ID", "FASTEST_FIRST", "x"])


@st.composite
def machines(draw: st.DrawFn) -> list[Card]:
    """Some of the GPUs, and D's instances if it is there and in MIG mode."""
    with_mig = draw(st.booleans())
    chosen = draw(st.permutations("ABCD"))[: draw(st.integers(0, 4))]
    cards = [
        Card(UUIDS[letter], "a GPU", BUS_IDS[letter], index, partitioned=with_mig and letter == "D")
        for index, letter in enumerate(chosen)
    ]
    if with_mig and "D" in chosen:
        cards += [Card(UUIDS["mn"[i]], "MIG", BUS_IDS["D"], i, instance=(i + 1, 0)) for i in range(2)]
    return cards


@given(VALUES, ORDERS, machines())
def test_only_devices_that_are_there_are_named_and_each_once(value, order, cards):
    found = [uuid for uuid in uuids(environment_as_is(value, order), cards) if uuid is not None]
    assert set(found) <= {card.uuid for card in cards}
    assert len(set(found)) == len(found)
    assert not any(card.partitioned for card in cards if card.uuid in found)


@given(VALUES, ORDERS, machines(), st.randoms(use_true_random=False))
def test_the_order_in_which_nvml_lists_them_does_not_matter(value, order, cards, random):
    shuffled = random.sample(cards, len(cards))
    environ = environment_as_is(value, order)
    assert uuids(environ, shuffled) == uuids(environ, cards)


@given(VALUES.filter(bool), ORDERS, machines(), st.lists(TOKENS, max_size=3))
def test_nothing_after_an_invalid_entry_matters(value, order, cards, more):
    longer = ",".join([value, "-1", *more])
    assert uuids(environment_as_is(longer, order), cards) == uuids(environment_as_is(value, order), cards)


@given(VALUES, machines())
def test_without_an_order_an_index_names_nothing_among_several(value, cards):
    several = sum(card.uuid.startswith("GPU-") for card in cards) > 1
    found = uuids(environment_as_is(value, None), cards)
    first = (value or "").split(",")[0].strip()
    if several and (value is None or first[:1].isdigit()):
        assert set(found) <= {None}
