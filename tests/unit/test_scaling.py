"""Twice as many peers are twice the work, counted in operations and not in seconds."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.records import Records
from scenarios.reports.page import read_run
from scenarios.run_folder import RunFolder
from scenarios.scenario import ScenarioSettings
from scenarios.summary import summarise
from scenarios.virtual.engine import VirtualRun
from scenarios.virtual.learning.arena import Arena, Handle
from topologies import Topology, describe

PEERS = 40
CALLS_PER_PAIR_MAX = 0.1
"""Of peers; where every peer looked at every other once, it were 1."""

CALLS_PER_ROUND_MAX = 230
"""Of one peer with four neighbours, those of the interpreter's own functions included."""

BLOCKS_PER_PEER_MAX = 60
BLOCKS_PER_ROUND_MAX = 1
"""Pieces of memory that are there after two rounds and were not before, and more of them after each round of a peer;
43 and 0.2."""

EXPONENT_MAX = 1.05
"""Of the peers, in how many calls there are."""


def calls_per_pair(calls: Callable[[int], int]) -> float:
    """Return c of a + b·n + c·n² through the calls for n, 2n and 4n peers."""
    one, two, four = (calls(factor * PEERS) for factor in (1, 2, 4))
    return (four - 3 * two + 2 * one) / (6 * PEERS**2)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions are called, of ours and of others, generators' steps included."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # what earlier work has left would be taken apart, and counted, at some moment or other
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def settings_of(peers: int, **further: Any) -> ScenarioSettings:
    values: dict[str, Any] = {
        "scenario.peers": peers,
        "scenario.algorithm": "dfedavg",
        "model.name": "logistic",
        "data.partition": {"kind": "iid"},
        "topology.kind": "ring",
        "local.steps": 1,
        "local.batch_size": 4,
        "stop.rounds": 2,
        "evaluate.every": 2,
    }
    return scenario_files.load("quickstart", values=values | further)


def run(settings: ScenarioSettings) -> Records:
    whole = VirtualRun(settings, load_task(settings))
    whole.simulation.start()
    whole.simulation.run()
    whole.measurements.finish()
    return whole.records()


@pytest.mark.parametrize(
    "further",
    [
        pytest.param({}, id="honest"),
        pytest.param({"attack.kind": "alie", "attack.count": 1}, id="an attacker that sees all"),
        pytest.param({"attack.kind": "sign-flip", "attack.fraction": 0.3}, id="many attackers"),
    ],
)
def test_nothing_is_done_for_every_pair_of_peers(tmp_path: Path, further: dict[str, Any]) -> None:
    sizes = (8, PEERS, 2 * PEERS, 4 * PEERS)
    settings = {peers: settings_of(peers, **further) for peers in sizes}
    records = {}

    def write(peers: int) -> None:
        folder = RunFolder(tmp_path / str(peers))
        folder.begin(settings[peers])
        folder.finish(
            records[peers], summarise(settings[peers], records[peers], engine="virtual", wall_seconds=0.0)
        )
        folder.release()

    works: dict[str, Callable[[int], object]] = {
        "load": lambda peers: settings_of(peers, **further),
        "run": lambda peers: records.update({peers: run(settings[peers])}),
        "write": write,
        "read": lambda peers: read_run(tmp_path / str(peers)),
    }
    for work in works.values():  # imports
        work(8)
    for name, work in works.items():
        assert calls_per_pair(lambda peers, work=work: calls_of(lambda: work(peers))) < CALLS_PER_PAIR_MAX, (
            name
        )


class Unmeasured:
    """Evaluates nothing."""

    def round_completed(self, peer: object, event: object, now_s: float) -> bool:
        return False


def engine_of(peers: int, rounds: int) -> VirtualRun:
    """Return the virtual engine with peers that have four neighbours and do one step a round."""
    settings = settings_of(
        peers,
        **{
            "model.name": "mlp",
            "topology.kind": "regular",
            "topology.degree": 4,
            "local.steps": None,
            "local.epochs": 1,
            "local.batch_size": 32,
            "stop.rounds": rounds,
        },
    )
    return VirtualRun(settings, load_task(settings), measure=Unmeasured())


def go(whole: VirtualRun) -> None:
    whole.simulation.start()
    whole.simulation.run()
    whole.learning.flush()


def test_a_peers_round_is_so_many_calls_and_leaves_nothing_behind() -> None:
    go(engine_of(8, 1))
    peers, calls, blocks = 100, [], []
    for rounds in (2, 4):
        calls.append(calls_of(partial(go, engine_of(peers, rounds))))
        whole = engine_of(peers, rounds)
        gc.collect()
        before = sys.getallocatedblocks()
        go(whole)
        gc.collect()
        blocks.append(sys.getallocatedblocks() - before)
    assert (calls[1] - calls[0]) / (2 * peers) <= CALLS_PER_ROUND_MAX
    assert blocks[0] / peers <= BLOCKS_PER_PEER_MAX
    assert (blocks[1] - blocks[0]) / (2 * peers) <= BLOCKS_PER_ROUND_MAX


def test_ten_times_as_many_peers_are_ten_times_the_work() -> None:
    go(engine_of(8, 1))
    found: dict[str, list[int]] = {"set up": [], "run": []}
    for peers in (100, 1000):
        made: list[VirtualRun] = []
        found["set up"].append(calls_of(lambda peers=peers, made=made: made.append(engine_of(peers, 1))))
        found["run"].append(calls_of(partial(go, made[0])))
    for name, (few, many) in found.items():
        assert many <= few * 10**EXPONENT_MAX, name


def test_a_description_looks_at_no_pair_of_peers() -> None:
    describe(Topology("ring", 8))
    once, twice = (calls_of(lambda n=n: describe(Topology("torus", n))) for n in (900, 1800))
    assert twice <= 2.4 * once


class Counted(int):
    """A number that counts how often any of its kind is compared, or turned around."""

    operations = 0

    def __lt__(self, other: int) -> bool:
        Counted.operations += 1
        return int(self) < int(other)

    def __neg__(self) -> int:
        Counted.operations += 1
        return -int(self)


def arena_of(rows: int) -> Arena:
    arena = Arena(1, rows=rows, device=torch.device("cpu"))
    arena.free[:] = [Counted(row) for row in arena.free]
    Counted.operations = 0
    return arena


def placed(arena: Arena, row: int) -> Handle:
    handle = Handle(0, None, arena.free)
    handle.place(row)
    return handle


def test_rows_taken_one_by_one_are_not_sorted_each_time() -> None:
    rows = 2000
    arena = arena_of(rows)
    assert [arena.take(1)[0] for _ in range(rows)] == list(range(rows))
    assert Counted.operations == 0


def test_a_row_that_comes_free_and_is_taken_again_costs_no_walk_over_all_others() -> None:
    rows = 2000
    arena = arena_of(rows)
    kept = [placed(arena, row) for row in arena.take(rows // 2)]
    for position in range(0, len(kept), 10):
        arena.free.append(kept[position].row)
        assert arena.take(1)[0] == position
    assert Counted.operations < 60 * len(kept) // 10


def test_rows_are_handed_out_lowest_first_whenever_they_came_free() -> None:
    arena = Arena(1, rows=500, device=torch.device("cpu"))
    kept = [placed(arena, row) for row in arena.take(400)]
    for freed in (range(7, 9), range(50, 350, 2)):
        for position in freed:
            kept[position].row, gone = -1, kept[position].row
            arena.free.append(gone)
        assert arena.take(len(freed)) == list(freed)
