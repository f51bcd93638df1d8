"""The benchmarks: their quick form runs, every figure comes from the file, and a run that failed stays in it."""

from __future__ import annotations

import copy
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as command
from benchmarks import accuracy, cells, coverage, figures, goals, memory, methods, perturbation, results
from benchmarks.engine import Program
from benchmarks.results import Results, load
from benchmarks.runs import (
    HAND,
    ISOLATED,
    LARGE,
    LONG,
    MEMIT,
    MIB,
    NO_VERDICT,
    OWN,
    PEERS,
    PINNED,
    SAMPLER,
    Runs,
    busy,
    deviations,
    errors,
    share,
    spread,
)
from benchmarks.suites import SUITES, Suite
from benchmarks.work import Setup
from fwmagic.measure.calls import Harness, Local
from fwmagic.memory import nvml

ROOT = Path(__file__).parent.parent


def run_of(suite="alike-torch", **facts):
    """A run as a suite would record it; `facts` replace its own."""
    run = {
        "suite": suite,
        "setup": "torch 150 µs",
        "method": "fwmagic",
        "planted": None,
        "true": 1.0,
        "ratio": 1.0,
        "verdict": "same",
        "length": 1.5e-4,
        "each": 1e-4,
        "seconds": 1.0,
        "raw": raw_of(),
    }
    return {**run, **facts}


def raw_of(low=0.99, high=1.01, spent=0.4):
    return {"neighbours": [], "ratio": {"low": low, "high": high}, "spent": spent}


def by_hand(suite="alike-torch", **facts):
    return run_of(suite, method=HAND, verdict=NO_VERDICT, raw={}, **facts)


def failed_run(suite="alike-torch", **facts):
    facts = {"setup": "torch 150 µs", "method": "fwmagic", "planted": None, "true": 1.0, "length": 1.5e-4, **facts}
    return {"suite": suite, **facts, "failed": "ValueError: planted"}


def row(text, *starts):
    """Return the cells of the one table row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    (found,) = [one for one in rows if tuple(one[: len(starts)]) == starts]
    return found


def goal(runs, start):
    ((_, found, met),) = [row for row in goals.rows(Runs(runs)) if row[0].startswith(start)]
    return found, met


@pytest.fixture(scope="module", params=["loading,cost,alike-torch", pytest.param("", marks=pytest.mark.slow)])
def quick(request, tmp_path_factory):
    """The file and the output of one quick run of some suites, and of all."""
    path = tmp_path_factory.mktemp("benchmarks") / "quick.json"
    arguments = [sys.executable, "-m", "benchmarks", "--quick", "--seed", "1", "--out", path]
    if request.param:
        arguments += ["--only", request.param]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done.stdout


#: The suites that only the run of all has.
of_all = pytest.mark.parametrize("quick", [pytest.param("", marks=pytest.mark.slow)], indirect=True, ids=["all"])


def test_every_suite_runs_in_its_quick_form(quick, request):
    runs = Runs(load(quick[0])["runs"])
    asked = request.node.callspec.params["quick"]
    assert [run["failed"] for run in runs.failed] == []
    assert {run["suite"] for run in runs} == set(asked.split(",") if asked else SUITES)


def test_every_method_is_run_in_random_order_on_the_same_set_up(quick):
    runs = Runs(load(quick[0])["runs"]).of("alike-torch")
    assert {run["method"] for run in runs} == set(methods.METHODS) - {LONG}
    assert all(run["raw"]["samples"] for run in runs)


@of_all
def test_every_method_times_two_frameworks(quick):
    runs = Runs(load(quick[0])["runs"]).of("frameworks")
    assert {run["method"] for run in runs} == set(methods.METHODS)
    assert all(run["raw"]["samples"] for run in runs)


@of_all
def test_cells_with_and_without_a_state_are_run_beside_a_loop_by_hand(quick):
    runs = Runs(load(quick[0])["runs"]).of("cells")
    found = {(run["setup"], run["method"]) for run in runs}
    names = [f"{name} 150 µs, {state}" for name in ("torch", "jax", "numpy") for state in ("no state", "a list grows")]
    assert found == {(name, method) for name in names for method in (OWN, HAND)}
    own = runs.of("cells", method=OWN)
    assert all(set(run["raw"]["calls_per_block"].values()) == {1} for run in own if "a list grows" in run["setup"])


@of_all
def test_a_cell_alone_a_pair_and_a_browser_have_their_runs(quick):
    runs = Runs(load(quick[0])["runs"])
    assert Counter(run["method"] for run in runs.of("alone").good) == {OWN: 3, HAND: 3}
    assert Counter(run["method"] for run in runs.of("pairs").good) == {OWN: 1, ISOLATED: 1}
    (shown,) = runs.of("lab").good
    assert shown["low"] <= shown["ratio"] <= shown["high"]


@of_all
def test_the_isolated_pair_is_run_beside_one_process_and_the_peers(quick):
    runs = Runs(load(quick[0])["runs"]).of("isolated")
    assert {run["method"] for run in runs} == {PINNED, "fwmagic in one process", *PEERS}
    (pinned,) = runs.of("isolated", method=PINNED)
    assert "1 thread for each framework" in pinned["process"]


@of_all
def test_every_cell_with_a_known_temporary_is_measured_by_every_method(quick):
    runs = Runs(load(quick[0])["runs"]).of("memory")
    for (setup,), some in runs.groups("setup"):
        found = {run["method"]: run for run in some}
        assert {OWN, ISOLATED, SAMPLER} <= found.keys() <= {OWN, ISOLATED, SAMPLER, MEMIT}, setup
        assert all(found[method]["heap"] > 0 for method in (OWN, ISOLATED))
        assert {run["true"] for run in some} == {some.good[0]["temporary"] + 4}
    assert {setup for (setup,), _ in runs.groups("setup")} == set(memory.KINDS)


@of_all
def test_what_runs_while_blocks_run_is_counted(quick):
    (counts,) = Runs(load(quick[0])["runs"]).of("perturbation", setup="counts")
    assert counts["blocks"] > 0
    assert counts["calls"] > 0
    assert (counts["threads"], counts["profiles"], counts["nvml"]) == (0, 0, 0)
    assert {"host", "heap"} <= set(counts["ledgers"])


@of_all
def test_arrays_of_every_kind_reach_a_worker(quick):
    sends = Runs(load(quick[0])["runs"]).of("workers", method="send")
    assert {(run["setup"], run["kind"]) for run in sends} == {
        (name, kind) for name in ("torch", "jax", "numpy") for kind in ("first", "later")
    }


@of_all
def test_the_pair_that_fails_is_no_part_of_the_replays(quick):
    data = load(quick[0])
    runs = Runs(data["runs"]).of("coverage")
    assert [(run["setup"], run["counted"]) for run in runs] == [
        ("torch 150 µs", True),
        ("jax 150 µs", True),
        ("jax/torch 150 µs, isolated", True),
        ("NOT COUNTED, THE PAIR THAT FAILS: jax/torch 150 µs, in one process", False),
    ]
    assert goal(data["runs"], "interval covers")[0].endswith("of 30")


def test_conditions_commit_and_loads_are_in_the_file(quick):
    data = load(quick[0])
    (session,) = data["sessions"]
    assert session["quick"] is True
    assert session["seed"] == 1
    assert session["versions"]["torch"]
    assert session["threads"]["OMP_NUM_THREADS"] == "1"
    if (ROOT / ".git").exists():
        kind = subprocess.run(["git", "cat-file", "-t", session["commit"]], cwd=ROOT, capture_output=True, text=True)
        assert kind.stdout.strip() == "commit"
        assert isinstance(session["dirty"], bool)
    assert all({"before", "after", "others"} <= run["load"].keys() for run in data["runs"])


@of_all
def test_a_busy_process_is_seen_by_the_suite_with_a_neighbour(quick):
    runs = Runs(load(quick[0])["runs"]).of("neighbour", method="fwmagic")
    assert goals.load_named(runs) == 1.0


def test_a_neighbour_in_bursts_uses_a_part_of_a_core():
    with command._beside("bursts"):
        (neighbour,) = [one for one in psutil.Process().children() if "expovariate" in " ".join(one.cmdline())]
        before, start = sum(neighbour.cpu_times()[:2]), time.perf_counter()
        time.sleep(1)
        used = (sum(neighbour.cpu_times()[:2]) - before) / (time.perf_counter() - start)
    assert 0.05 < used < 0.6
    assert not neighbour.is_running()


def test_the_output_ends_with_the_figures_of_the_file(quick, capsys):
    path, output = quick
    assert figures.main([str(path)]) == 0
    assert output.rstrip().endswith(capsys.readouterr().out.rstrip())


def test_figures_follow_the_numbers_in_the_file(quick, tmp_path, capsys):
    data = copy.deepcopy(load(quick[0]))
    for run in data["runs"]:
        if run["suite"] == "loading":
            run["load_ext"] = 0.0123
        if run["suite"] == "cost":
            run["samples"] = {"fwmagic": [3e-6, 2e-6, 1e-6], "by hand": [1.5e-6]}
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data))
    figures.main([str(path)])
    text = capsys.readouterr().out
    assert row(text, "2", "0")[2:4] == ["12.3", "12.3"]
    assert row(text.partition("## Cost of a timed call")[2].partition("##")[0], "torch")[-3:] == ["2", "1.5", "+0.5000"]


def test_a_failed_run_stays_in_a_file_that_is_added_to(tmp_path):
    path = tmp_path / "results.json"
    first = Results(path)
    first.begin()
    first.add(failed_run())
    first.save()
    second = Results(path)
    second.begin()
    second.add(run_of())
    second.save()
    data = load(path)
    assert [run["session"] for run in data["runs"]] == [0, 1]
    text = figures.to_markdown(data)
    assert row(text, "torch 150 µs", "fwmagic")[3:5] == ["2", "1"]
    assert "ValueError: planted" in text
    assert row(text, "alike-torch: ratio error, worst ≤ 0.8 %")[-1] == "NO"
    assert row(text, "alike-torch: `same` in ≥ 95 %")[1:] == ["50.00 % of 2", "NO"]


def test_a_method_that_raises_gives_a_failed_run(monkeypatch):
    def broken(a, b, effort):
        raise ValueError("planted")

    monkeypatch.setitem(methods.METHODS, "broken", broken)
    run = accuracy._one(accuracy.Job("broken", Setup("torch 150 µs", ("torch", "torch"), 8, 1e-5)), methods.QUICK)
    assert run["failed"] == "ValueError: planted"
    assert run["load"]["after"] >= 0


def test_a_variant_that_fails_gives_a_failed_run(monkeypatch):
    def raising():
        raise ValueError("planted")

    with pytest.raises(RuntimeError, match="a: ValueError: planted"):
        methods.fwmagic_compare(raising, lambda: None, methods.QUICK)


def test_a_worker_that_breaks_off_leaves_a_failed_run():
    (run,) = command._runs(Suite("absent", "absent", "absent", 0), seed=0, quick=True)
    assert run["failed"] == "the worker broke off with exit status 1"
    assert goal([run], "every suite ran") == ("absent broke off", "NO")


def test_an_unknown_suite_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "cost,absent"])
    assert "no suite 'absent'" in capsys.readouterr().err


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"version": 0}')
    with pytest.raises(ValueError, match="no benchmark results"):
        load(path)


def test_the_planted_work_is_on_a_side_by_chance_and_known():
    plant = accuracy.Plant(0.03, margin=0.004)
    job = accuracy.Job("fwmagic", Setup("s", ("torch", "torch"), 64, 1e-5))
    jobs = accuracy._planted([job] * 50, plant, random.Random(0))
    assert {job.planted for job in jobs} == {"a", "b"}
    run = accuracy._one(replace(job, planted="a", plant=plant), methods.QUICK)
    assert run["turns"] > 0
    assert run["true"] == 1 / 1.03
    assert (run["share"], run["margin"]) == (0.03, 0.004)


def test_every_goal_of_planted_work_has_its_runs():
    assert {(plant.share, plant.margin) for plant in accuracy.PLANTS} == set(goals._FOUND)


def test_the_margin_of_a_plant_reaches_fwmagic(monkeypatch):
    margins = []
    monkeypatch.setitem(methods.METHODS, "asked", lambda a, b, effort: margins.append(effort.margin) or {})
    job = accuracy.Job("asked", Setup("s", ("numpy", "numpy"), 8, 1e-5), "b", accuracy.PLANTS[2])
    accuracy._one(job, methods.QUICK)
    accuracy._one(replace(job, planted=None, plant=None), methods.QUICK)
    assert margins == [0.002, 0.01]


def test_a_loop_by_hand_has_a_ratio_and_no_verdict():
    calls = []
    found = methods.by_hand(lambda: calls.append("a"), lambda: calls.append("b"), methods.Effort(budget=0.01))
    assert found["verdict"] == NO_VERDICT
    assert calls.count("a") == calls.count("b") > 10
    assert 0.2 < found["ratio"] < 5
    assert {len(samples) for samples in found["raw"]["samples"].values()} <= set(range(1, 501))


def test_a_call_that_appends_has_a_list_of_its_own():
    first, second = cells.appending(lambda: 1), cells.appending(lambda: 2)
    assert (first(), first(), second()) == (1, 1, 2)
    lists = [dict(zip(one.__code__.co_freevars, one.__closure__, strict=True))["done"] for one in (first, second)]
    assert [one.cell_contents for one in lists] == [[0, 0], [0]]


def test_functions_of_a_set_up_share_their_buffers_and_compute_the_same():
    a, b = Setup("s", ("torch", "torch"), 8, 1e-5).functions((0, 3))
    assert (a() == b()).all()
    shared = [dict(zip(call.__code__.co_freevars, call.__closure__, strict=True)) for call in (a, b)]
    assert shared[0]["x"].cell_contents is shared[1]["x"].cell_contents
    first, second = Setup("s", ("torch", "jax"), 8, 1e-5).functions()
    third, _ = Setup("s", ("numpy", "numpy"), 8, 1e-5).functions()
    assert abs(first().numpy() - second()).max() < 1e-6
    assert abs(first().numpy() - third()).max() < 1e-6


def test_ratio_errors_have_no_side():
    assert errors(Runs([run_of(ratio=1.02), run_of(ratio=1 / 1.02)])) == pytest.approx([0.02, 0.02])


def test_shares_count_failed_runs():
    runs = Runs([run_of(), run_of(verdict="undecided"), failed_run(), failed_run()])
    assert share(runs, "same") == 0.25
    assert share(Runs([]), "same") is None


def test_spread_is_that_of_the_logarithms():
    assert spread(Runs([run_of(ratio=math.exp(value)) for value in (0.0, 0.1, 0.2)])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("planted", "verdict", "found", "wrong", "false"),
    [
        ("b", "slower", 1, 0, 0),
        ("a", "faster", 1, 0, 0),
        ("b", "faster", 0, 1, 1),
        ("b", "same", 0, 0, 1),
        ("b", "undecided", 0, 0, 0),
        (None, "same", 0, 0, 0),
        (None, "slower", 0, 1, 1),
        (None, "undecided", 0, 0, 0),
        (None, "withheld", 0, 0, 0),
        (None, NO_VERDICT, 0, 0, 0),
    ],
)
def test_verdicts_are_judged_by_what_is_true(planted, verdict, found, wrong, false):
    runs = Runs([run_of(planted=planted, verdict=verdict)])
    assert goals.false_verdicts(runs) == false
    if planted is not None:
        assert (goals.found(runs), goals.wrong_side(runs)) == (found, wrong)


def test_a_failed_run_is_a_false_verdict():
    assert goals.false_verdicts(Runs([failed_run(), run_of()])) == 0.5


@pytest.mark.parametrize(
    ("length", "budget", "spent", "kept"),
    [(1e-3, 1.0, 1.09, True), (1e-3, 1.0, 1.12, False), (0.5, 1.0, 1.45, True), (10.0, 2.0, 20.1, True)],
)
def test_a_budget_is_kept_within_a_tenth_or_a_call(length, budget, spent, kept):
    run = {"length": length, "budget": budget, "spent": spent, "calls": [3, 3]}
    assert goals.kept(run) is kept


def test_the_spread_goal_needs_every_peer():
    def runs_of(method, width):
        facts = {"method": method, "setup": "jax/torch 150 µs"}
        return [run_of("frameworks", ratio=ratio, **facts) for ratio in (1 - width, 1 + width)]

    ours, peers = runs_of("fwmagic", 0.01), [*runs_of("%timeit", 0.04), *runs_of("Timer blocked", 0.05)]
    of_peers, of_hand = "jax/torch 150 µs: spread (SD) of each peer", "jax/torch 150 µs: spread (SD) ≤ that"
    assert goal([*ours, *peers], of_peers)[1] == "–"
    assert goal([*ours, *peers, *runs_of("Timer adaptive", 0.04)], of_peers)[1] == "yes"
    assert goal([*ours, *peers, *runs_of("Timer adaptive", 0.02)], of_peers)[1] == "NO"
    assert goal([*ours, *peers], of_hand) == ("no run", "–")
    assert goal([*ours, *runs_of(HAND, 0.011)], of_hand)[1] == "yes"
    assert goal([*ours, *runs_of(HAND, 0.009)], of_hand)[1] == "NO"
    failed = failed_run("frameworks", setup="jax/torch 150 µs")
    assert goal([*ours, *runs_of(HAND, 0.011), failed], of_hand) == ("inf times of 3", "NO")


def met(runs, title):
    """Return which goals of a title are met, by what comes after it."""
    return {name.removeprefix(f"{title}: "): met for name, _, met in goals.rows(Runs(runs)) if name.startswith(title)}


@pytest.mark.parametrize("suite", ["alike-torch", "alike-jax", "alike-numpy", "cells"])
def test_the_goals_of_what_is_alike_are_met_by_good_runs_and_by_none_that_failed(suite):
    title = suite.partition("-")[0]
    good = [run_of(suite, ratio=ratio) for ratio in (0.9995, 1.001, 1.0015)] + [by_hand(suite, ratio=1.001)]
    assert set(met(good, suite).values()) == set(met(good, title + ":").values()) == {"yes"}
    failed = [failed_run(suite), by_hand(suite, ratio=1.001)]
    assert set(met(failed, suite).values()) == set(met(failed, title + ":").values()) == {"NO"}
    assert set(met([by_hand(suite)], suite).values()) == {"–"}


@pytest.mark.parametrize(
    ("goal", "bad", "hand"),
    [
        ("ratio error, median ≤ 1.2 times that by hand", {"ratio": 1.0013}, 1.001),
        ("ratio error, median ≤ 0.15 %", {"ratio": 1.0016}, 1.002),
        ("ratio error, worst ≤ 0.8 %", {"ratio": 1.0081}, 1.1),
        ("`same` in ≥ 95 %", {"verdict": "undecided"}, 1.001),
        ("decided on calls of ≤ 1 ms, median ≤ 0.5 s", {"raw": raw_of(spent=0.6)}, 1.001),
        ("decided on calls of ≤ 1 ms, median ≤ 0.5 s", {"verdict": "undecided"}, 1.001),
    ],
)
def test_runs_that_are_not_good_enough_miss_a_goal_of_what_is_alike(goal, bad, hand):
    of_hand = by_hand(ratio=hand)
    assert met([run_of(**bad), of_hand], "alike-torch")[goal] == "NO"
    assert met([run_of(), of_hand], "alike-torch")[goal] == "yes"


def test_long_calls_may_take_longer_to_be_decided():
    name = "alike-torch: decided on calls"
    assert goal([run_of(raw=raw_of(spent=0.9), length=5e-3)], name) == ("no run", "–")
    assert goal([run_of(raw=raw_of(spent=0.9), length=5e-3), run_of(length=1e-3)], name) == ("0.4 s of 1", "yes")


def test_false_verdicts_and_intervals_of_all_frameworks_are_counted_together():
    good = [run_of(suite) for suite in ("alike-torch", "alike-jax", "alike-numpy") for _ in range(67)]
    assert goal([*good, run_of(verdict="slower")], "alike: false") == ("0.50 % of 202", "yes")
    assert goal([*good[:99], run_of(verdict="slower")], "alike: false") == ("1.00 % of 100", "NO")
    outside, without = run_of(raw=raw_of(low=1.001)), run_of(raw=raw_of(low=None, high=None))
    assert goal([*good[:94], *[outside, without] * 3], "alike: interval holds 1") == ("94.00 % of 100", "yes")
    assert goal([*good[:93], *[outside] * 7], "alike: interval holds 1") == ("93.00 % of 100", "NO")


@pytest.mark.parametrize(
    ("share", "margin", "start", "least"),
    [(0.02, 0.01, "planted 2 %", 19), (0.015, 0.01, "planted 1.5 %", 18), (0.005, 0.002, "planted 0.5 %", 16)],
)
def test_the_goals_of_planted_work(share, margin, start, least):
    facts = {"planted": "b", "true": 1 + share, "share": share, "margin": margin}
    hit, miss = run_of("planted", verdict="slower", **facts), run_of("planted", verdict="undecided", **facts)
    assert goal([hit] * least + [miss] * (20 - least), start)[1] == "yes"
    assert goal([hit] * (least - 1) + [miss] * (21 - least), start)[1] == "NO"
    assert goal([hit] * (least - 1) + [failed_run("planted", **facts)] * (21 - least), start)[1] == "NO"
    assert goal([run_of("planted", verdict="slower", **{**facts, "margin": 0.05})], start) == ("no run", "–")


@pytest.mark.parametrize(
    ("suite", "start"), [("neighbour", "busy neighbour: false"), ("bursts", "neighbour in bursts")]
)
def test_the_goals_beside_a_neighbour(suite, start):
    good = [run_of(suite)] * 98 + [run_of(suite, verdict="undecided")]
    assert goal([*good, run_of(suite, verdict="faster")], start) == ("1.00 % of 100", "yes")
    assert goal([*good[1:], *[run_of(suite, verdict="faster")] * 2], start) == ("2.00 % of 100", "NO")
    assert goal([*good[1:], *[failed_run(suite)] * 2], start)[1] == "NO"


def test_a_loop_by_hand_stands_in_the_figures_without_a_verdict():
    text = figures.to_markdown({"sessions": [], "runs": [run_of(), by_hand(ratio=1.002)]})
    assert row(text, "torch 150 µs", HAND)[6:12] == ["0.20 %", "–", "–", "–", "–", "–"]
    assert row(text, "torch 150 µs", OWN)[6:12] == ["0.00 %", "0 %", "100 %", "0 %", "100 %", "0.4"]


def test_coverage_counts_replays_without_an_interval():
    replays = [
        {"true": 1.0, "low": 0.9, "high": 1.1},
        {"true": 1.2, "low": 0.9, "high": 1.1},
        {"true": 1.0, "low": None, "high": None},
    ]
    assert goals.covered(replays) == pytest.approx(1 / 3)


def test_deviations_are_from_the_median_of_the_runs_and_have_no_side():
    runs = Runs([run_of(ratio=2 / 1.02), run_of(ratio=2.0), run_of(ratio=2 * 1.01), failed_run()])
    # the median of three is 2.0
    assert deviations(runs) == pytest.approx([0.02, 0.0, 0.01])


def test_a_run_is_busy_by_what_others_used_of_the_machine():
    loads = [{"before": 3.0, "after": 3.0, "others": others} for others in (0.0, 0.2, 0.3, 1.0)]
    assert busy(Runs([*(run_of(load=one) for one in loads), run_of()])) == 2


def test_the_load_of_our_own_processes_is_not_that_of_others():
    before = results._seconds_of_children()
    code = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert results._seconds_of_children() - before >= 0.25


def test_the_goals_of_the_isolated_pair():
    def runs_of(method, *ratios):
        return [run_of("isolated", setup="jax/torch 150 µs", method=method, ratio=ratio) for ratio in ratios]

    own = runs_of(PINNED, 1.0, 1.004, 0.996, 1.0, 1.015)
    peers = [run for method in goals.PEERS for run in runs_of(method, 0.9, 1.0, 1.1)]
    start = "jax/torch 150 µs, fwmagic --threads 1: "
    assert goal([*own, *peers], start + "ratio from its median, median") == ("0.40 % of 5", "yes")
    assert goal([*own, *peers], start + "ratio from its median, worst") == ("1.50 % of 5", "yes")
    assert goal([*own, *peers], start + "spread")[1] == "yes"
    steady = [*runs_of("%timeit", 0.999, 1.001), *peers[3:]]
    assert goal([*own, *steady], start + "spread")[1] == "NO"
    failed = failed_run("isolated", setup="jax/torch 150 µs", method=PINNED)
    assert goal([*own, *peers, failed], start + "ratio from its median, worst")[1] == "NO"


def test_the_goal_of_a_loop_by_hand_that_runs_for_a_minute():
    start = "torch 150 µs: interval holds the ratio of a minute by hand, in turns"
    truth = run_of("frameworks", method=LONG, ratio=1.005)
    holding, outside = (run_of("frameworks", raw=raw_of(high=high)) for high in (1.01, 1.004))
    assert goal([truth, *[holding] * 9, outside], start) == ("90.00 % of 10", "yes")
    assert goal([truth, *[holding] * 8, outside], start)[1] == "NO"
    assert goal([holding], start) == ("no run", "–")


def test_the_goal_of_cells_that_are_timed_alone():
    def cell(name, *each, method=OWN):
        return [run_of("alone", setup=name, method=method, each=one) for one in each]

    start = "time per call within 3 %"
    near = [*cell("near", 1.0, 1.02, 9.0), *cell("near", 1.0, method=HAND)]
    far = [*cell("far", 0.96), *cell("far", 1.0, method=HAND)]
    assert goal(near, start) == ("100.00 % of 1", "yes")
    assert goal([*near, *far], start) == ("50.00 % of 2", "NO")
    assert goal([*near, failed_run("alone", setup="near")], start)[1] == "NO"


def test_the_goals_of_isolated_pairs():
    def pair(name, here, away, verdict="faster"):
        own = run_of("pairs", setup=name, ratio=here, verdict="faster")
        return [own, run_of("pairs", setup=name, method=ISOLATED, ratio=away, verdict=verdict)]

    verdict, ratio = "isolated: the verdict of this process", "isolated: ratio within 5 %"
    assert goal(pair("a", 0.5, 0.52), ratio) == ("100.00 % of 1", "yes")
    assert goal([*pair("a", 0.5, 0.52), *pair("b", 0.5, 0.53)], ratio) == ("50.00 % of 2", "NO")
    assert goal([*pair("a", 0.5, 0.5), *pair("b", 0.5, 0.5, "undecided")], verdict) == ("50.00 % of 2", "NO")
    assert goal([run_of("pairs", setup="a"), failed_run("pairs", setup="a", method=ISOLATED)], verdict)[1] == "NO"


def test_the_goals_in_jupyterlab():
    def shown(true, *verdicts):
        return [run_of("lab", true=true, verdict=verdict) for verdict in verdicts]

    decided, false = "in JupyterLab: unlike", "in JupyterLab: false"
    runs = [*shown(None, *["slower"] * 19, "undecided"), *shown(1.0, "same", "undecided")]
    assert goal(runs, decided) == ("95.00 % of 20", "yes")
    assert goal(runs, false) == ("0.00 % of 2", "yes")
    assert goal([*runs, *shown(None, "undecided")], decided)[1] == "NO"
    assert goal([*runs, *shown(1.0, "slower")], false)[1] == "NO"


def test_the_goals_of_isolated_workers():
    def start(setup, seconds):
        return {"suite": "workers", "setup": setup, "method": "start", "seconds": seconds}

    def send(kind, seconds):
        return {"suite": "workers", "setup": "jax", "method": "send", "kind": kind, "seconds": seconds, "bytes": 8}

    starts = [start("first worker", 4.0), start("later worker", 0.1), start("cold imports", 2.0)]
    name = "a later isolated worker starts"
    assert goal(starts, name) == ("20 times of 1", "yes")
    assert goal([*starts, start("later worker", 0.9)], name) == ("4 times of 2", "NO")
    sent = "100 MB from jax reach a worker"
    assert goal([send("first", 3.0), send("later", 0.1)], sent) == ("0.1 s of 1", "yes")
    assert goal([send("later", 0.1), send("later", 0.3)], sent) == ("0.3 s of 2", "NO")
    assert goal([send("later", 0.1), failed_run("workers", setup="jax", method="send", kind="later")], sent)[1] == "NO"


def test_the_goals_of_perturbation():
    def repeat(own):
        medians = {"fwmagic": own, "fwmagic --no-memory": own, "by hand": 1.0, "by hand again": 1.0}
        return {"suite": "perturbation", "setup": "torch 150 µs", "method": "fwmagic", "medians": medians}

    name = "timing with memory on"
    assert goal([repeat(0.5), repeat(1.01), repeat(1.5)], name) == ("1.00 % of 3", "yes")
    assert goal([repeat(0.5), repeat(0.97), repeat(1.5)], name) == ("3.00 % of 3", "NO")
    counts = {"suite": "perturbation", "setup": "counts", "method": "fwmagic", "threads": 0, "profiles": 0, "nvml": 0}
    assert goal([counts], "while blocks run")[1] == "yes"
    assert goal([{**counts, "nvml": 1}], "while blocks run") == ("1 seen of 1", "NO")


def test_the_goals_of_known_temporaries():
    def cell(method, true, heap, resident):
        note = "" if resident else "up to 2 MiB stayed resident"
        found = {"heap": heap, "resident": resident, "raw": {"host": {"note": note}}}
        return {"suite": "memory", "setup": "torch", "method": method, "true": true, "lasted": 0.001, **found}

    small, large = 2 * MIB, 100 * MIB
    runs = [
        cell(OWN, small, small, 0),
        cell(OWN, large, int(1.01 * large), 0),
        cell(ISOLATED, small, int(1.03 * small), 0),
        cell(ISOLATED, large, large, int(0.985 * large)),
    ]
    assert goal(runs, "peak of the heap, the kernel's process") == ("1.00 % of 2", "yes")
    assert goal(runs, "peak of the heap, isolated")[1] == "NO"
    # of the smaller ones, none has to show in the resident memory
    assert goal(runs, "resident growth of 16 to 256 MiB, isolated") == ("100.00 % of 1", "yes")
    assert goal(runs, "resident growth of 16 to 256 MiB, the kernel's process") == ("0.00 % of 1", "NO")
    assert goals.within({"true": LARGE, "resident": LARGE - MIB})
    assert not goals.within({"true": LARGE, "resident": LARGE - MIB - 1})
    text = figures.to_markdown({"sessions": [], "runs": runs})
    assert row(text, "torch", "2.00")[3:] == ["+0.00 %", "+3.00 %", "-100.00 %", "-100.00 %", "–", "–"]
    assert row(text, "resident, isolated", "16 to 256")[2:] == ["1", "0", "1.50 %", "1.50 %", "1", "1", "0 of 0"]
    assert row(text, "resident", "16 to 256")[2:] == ["1", "0", "100.00 %", "100.00 %", "0", "0", "1 of 1"]
    assert goal(runs, "resident growth that is further off") == ("100.00 % of 2", "yes")
    runs[0]["raw"]["host"]["note"] = ""
    assert goal(runs, "resident growth that is further off") == ("50.00 % of 2", "NO")
    assert "%memit was left out: memory_profiler was not installed." in text


def test_replays_that_are_not_counted_meet_no_goal():
    replays = [{"true": 1.0, "low": 0.9, "high": 1.1}]
    counted = {"suite": "coverage", "replays": replays}
    outside = {"suite": "coverage", "counted": False, "replays": [{"true": 2.0, "low": 0.9, "high": 1.1}]}
    found = [row for row in goals.rows(Runs([counted, outside])) if row[0].startswith("interval covers")]
    assert found == [("interval covers in ≥ 93 % of replays", "100.00 % of 1", "yes")]


def test_cells_are_drawn_from_both_parts_of_the_sizes_and_from_a_seed():
    drawn = memory.cells_of(random.Random(3), 5)
    assert drawn == memory.cells_of(random.Random(3), 5)
    assert len(drawn) == 20
    for kind in memory.KINDS.values():
        sizes = [cell.temporary for cell in drawn if cell.kind == kind]
        assert 2 <= sum(size < LARGE for size in sizes) <= 3
        assert all(MIB <= size <= 256 * MIB + 1024 for size in sizes)
    assert all(0.2e-3 <= cell.life <= 50e-3 for cell in drawn)


def test_a_temporary_that_xla_does_without_is_no_known_one():
    cell = memory.Cell(memory.KINDS["JAX jitted"], 8192, 1e-3)
    account = {"argument": 0, "output": 4, "alias": 0, "temp": cell.temporary + 80}
    memory._check(account, cell)
    with pytest.raises(RuntimeError, match="XLA has temporaries of 80 bytes"):
        memory._check({**account, "temp": 80}, cell)
    memory._check(None, replace(cell, kind=memory.KINDS["torch"]))


def test_without_memory_profiler_it_is_said_and_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "memory_profiler", None)
    assert not memory._load_memit()
    assert (
        "%memit is left out: memory_profiler is not installed (pip install memory_profiler)" in capsys.readouterr().err
    )


def test_what_disturbs_a_block_is_counted_and_what_is_outside_is_not(monkeypatch):
    monkeypatch.setattr(perturbation, "_counts", counts := perturbation.Counts())
    read = nvml.read

    def call():
        perturbation.probe()
        sys.setprofile(lambda *_: None)
        perturbation.probe()
        sys.setprofile(None)
        nvml.read(None)

    with perturbation._counting():
        perturbation.probe()
        nvml.read(None)
        Local("a", Program("a", call), Harness(lambda: 0, lambda: None, nullcontext)).block(3, lead_in=False)
    assert (counts.blocks, counts.calls, counts.profiles, counts.nvml, counts.nvml_outside) == (1, 6, 3, 3, 1)
    assert counts.threads == set()
    assert nvml.read is read


def test_a_replay_holds_a_ratio_that_is_known():
    rng = random.Random(0)
    noise = [[math.exp(rng.gauss(0, 0.01)) for _ in range(500)] for _ in range(2)]
    recording = coverage.Recording(*noise, round_seconds=0.01)
    replays = [coverage.replay(recording, 20, 1.0, rng) for _ in range(100)]
    assert {replay["rounds"] for replay in replays} == {100}
    assert len({replay["true"] for replay in replays}) == 100
    assert goals.covered(replays) > 0.85


def test_stretches_grow_with_the_memory_of_the_noise():
    rng = random.Random(0)
    free = [math.exp(rng.gauss(0, 0.01)) for _ in range(4000)]
    drifting = [math.exp(0.01 * math.sin(i / 60) + rng.gauss(0, 0.001)) for i in range(4000)]
    ones = [1.0] * 4000
    assert coverage.stretch_of(coverage.Recording(ones, free, 0.01)) == 20
    assert coverage.stretch_of(coverage.Recording(ones, drifting, 0.01)) > 100
