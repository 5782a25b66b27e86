"""Runs of `modest.py` in the virtual engine, and what its tables need of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple


class Wanted(NamedTuple):
    """One run in the virtual engine."""

    scenario: str
    seed: int
    overrides: tuple[str, ...] = ()


Drawn = tuple[str, int, str, frozenset[str]]
"""(aggregators or participants, round, who drew, the sample)."""


def record_samples() -> tuple[list[Drawn], Callable[[], None]]:
    """Have every sample that is drawn in this process noted; return the list, and what ends it."""
    from gossip.protocols.modest.core import Core

    drawn: list[Drawn] = []
    draw = Core.sample

    def sample(self: Core, ctx: Any, purpose: str, round: int, wanted: int, then: Any) -> None:
        def noted(ctx: Any, found: list[str]) -> None:
            drawn.append((purpose, round, self.me, frozenset(found)))
            then(ctx, found)

        draw(self, ctx, purpose, round, wanted, noted)

    def end() -> None:
        Core.sample = draw  # type: ignore[method-assign]

    Core.sample = sample  # type: ignore[method-assign]
    return drawn, end


def virtual(wanted: Wanted) -> dict[str, Any]:
    """Do a run and return what the tables need; runs in a process of its own."""
    import torch

    from scenarios.processes.averages import load_task
    from scenarios.progress import Quiet
    from scenarios.scenario import load
    from scenarios.summary import curve
    from scenarios.virtual.engine import VirtualRun
    from scenarios.virtual.quiet import quiet_collector

    torch.set_num_threads(1)
    began = time.monotonic()
    scenario = load(wanted.scenario, seed=wanted.seed, overrides=wanted.overrides)
    drawn, end = record_samples()
    with quiet_collector():
        run = VirtualRun(scenario, load_task(scenario))
        records = run.run(Quiet())
    end()
    sent: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    payload: Counter[str] = Counter()
    for peer in run.simulation.peers:
        for kind, (messages, total, tensors) in run.simulation.traffic_of(peer.index)[0].items():
            sent[kind] += messages
            nbytes[kind] += total
            payload[kind] += tensors
    first = [getattr(peer.protocol, "first_participation", 0) for peer in run.simulation.peers]
    last = [getattr(peer.protocol, "last_participation", 0) for peer in run.simulation.peers]
    came = [
        (note["time"], run.simulation.by_name[note["peer"]].index)
        for note in records.events
        if note["event"] == "joined"
    ]
    return {
        "curve": curve(records),
        "sent": dict(sent),
        "bytes": dict(nbytes),
        "payload": dict(payload),
        "first": first,
        "last": last,
        "participations": [getattr(peer.protocol, "participations", 0) for peer in run.simulation.peers],
        "alive": [peer.alive and not peer.paused for peer in run.simulation.peers],
        "joined": came,
        "bytes_of_peers": list(run.simulation.traffic.sent_bytes),
        "agreement": {purpose: agreement(drawn, purpose) for purpose in ("aggregators", "participants")},
        "seconds": time.monotonic() - began,
    }


def agreement(drawn: Sequence[Drawn], purpose: str) -> tuple[int, int]:
    """Return in how many rounds all that drew got the same sample, and how many rounds two or more drew in."""
    rounds: dict[int, dict[str, frozenset[str]]] = {}
    for why, round, peer, sample in drawn:
        if why == purpose:
            rounds.setdefault(round, {}).setdefault(
                peer, sample
            )  # what is drawn again later need not be the same
    shared = [set(samples.values()) for samples in rounds.values() if len(samples) > 1]
    return sum(len(samples) == 1 for samples in shared), len(shared)


class Bench:
    """Runs things, several at a time; with no jobs one after another in this process. `more` are settings of all."""

    def __init__(self, jobs: int, seeds: Sequence[int], more: Sequence[str] = ()) -> None:
        self._jobs = jobs
        self._more = tuple(more)
        self.seeds = seeds

    def run(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """Do all runs; results in their order."""
        wanted = [each._replace(overrides=(*each.overrides, *self._more)) for each in wanted]
        if not self._jobs:
            return [virtual(each) for each in wanted]
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn")) as pool:
            return list(pool.map(virtual, wanted))
