"""Runs of `vanishing_variance.py` in the virtual engine, looked at every so often, and kept in files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

CODE = 3
"""Raised with every change by which runs come out otherwise: results of older code are not taken for new ones."""
PERIOD_S = 10.0
UNTIL_S = 2000.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run in the virtual engine."""

    seed: int
    overrides: dict[str, Any] = field(default_factory=dict)
    until_s: float = UNTIL_S
    every_s: float = 25.0
    stop_at: float | None = None
    """Mean accuracy that ends the run."""
    scenario: str = "vanishing-variance"
    by_peer: bool = False
    """Note every peer's accuracy, not only the mean."""

    @property
    def name(self) -> str:
        said = json.dumps([CODE, asdict(self)], sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def carried_out(wanted: Wanted) -> dict[str, Any]:
    """Do a run and return its curve; in a process of its own, on one thread."""
    import torch

    from scenarios.processes.averages import load_task
    from scenarios.scenario import load
    from scenarios.virtual.quiet import quiet_collector

    torch.set_num_threads(1)
    began = time.monotonic()
    settings = load(wanted.scenario, seed=wanted.seed, values=wanted.overrides)
    with quiet_collector():
        watch = Watch(settings, load_task(settings), wanted)
        watch.by_time() if settings.protocol.kind == "push" else watch.by_round()
    return {"points": watch.points, "seconds": time.monotonic() - began, "wanted": asdict(wanted)}


class Watch:
    """Looks at all living peers' models every so often, or at a round's models when all have done it."""

    def __init__(self, settings: Any, task: Any, wanted: Wanted) -> None:
        import torch

        from scenarios.virtual.engine import VirtualRun

        self._wanted = wanted
        self._settings = settings
        self._task = task
        self.points: list[dict[str, Any]] = []
        self._weights = [slot for slot in task.space.slots if len(slot.shape) >= 2]
        starts = torch.stack([task.initial_of(name) for name in settings.peer_names])
        self._start_variances = self._variances(starts)
        self._rounds: dict[int, list[tuple[Any, Any]]] = {}
        self._alone = settings.protocol.kind in ("fedavg", "modest")
        self._run = VirtualRun(settings, task, measure=self)
        self._over = False

    def by_time(self) -> None:
        simulation, number = self._run.simulation, 0
        simulation.start()
        while number * self._wanted.every_s < self._wanted.until_s and not self._over:
            number += 1
            simulation.run(until_s=number * self._wanted.every_s)
            there = [peer for peer in simulation.peers if peer.alive and peer.checkpoint is not None]
            if there:
                self._look(
                    number * self._wanted.every_s,
                    [peer.checkpoint[1] for peer in there if peer.checkpoint],
                    [peer.trained for peer in there],
                    [peer.peer for peer in there],
                )

    def by_round(self) -> None:
        simulation = self._run.simulation
        simulation.start()
        while not self._over and simulation.run(events_max=1000):
            pass

    def round_completed(self, peer: Any, event: Any, now_s: float) -> bool:
        """Look at a round's models: all peers', or the one that an aggregator made."""
        every = max(1, round(self._wanted.every_s / PERIOD_S))
        if self._settings.protocol.kind == "push" or event.round % every:
            return False
        models = self._rounds.setdefault(event.round, [])
        models.append((event.model, peer.trained))
        if len(models) == (1 if self._alone else len(self._settings.peer_names)):
            held = [model for model, _ in models]
            trained = [model for _, model in self._rounds.pop(event.round)]
            if self._alone:
                clients = [each.trained for each in self._run.simulation.peers]
                trained = [model for model in clients if model is not None]
            self._look(event.round * PERIOD_S, held, trained, [])
            if event.round * PERIOD_S >= self._wanted.until_s:
                self._over = True
        return False

    def _look(self, time_s: float, held: list[Any], trained: list[Any], names: list[str]) -> None:
        """Note the accuracy of the models that peers hold, of those they have just trained, and of these' average."""
        learning = self._run.learning
        accuracies = [each.score for each in learning.evaluate(held)]
        ratios = self._variances(learning.stack(held)) / self._start_variances
        average = learning.stack(trained).double().mean(0).float()
        point = {
            "time": time_s,
            "accuracy": fmean(accuracies),
            "own": fmean(each.score for each in learning.evaluate(trained)),
            "average": self._task.evaluate(average).score,
            "ratios": ratios.tolist(),
        }
        if self._wanted.by_peer:
            point["peers"] = dict(zip(names, accuracies, strict=True))
        self.points.append(point)
        if self._wanted.stop_at is not None and point["accuracy"] >= self._wanted.stop_at:
            self._over = True

    def _variances(self, models: Any) -> Any:
        """Return the mean over the models of each weight tensor's variance."""
        import torch

        return torch.stack(
            [models[:, slot.offset : slot.end].double().var(1).mean() for slot in self._weights]
        )


def results(runs: Sequence[Wanted], out: Path, jobs: int) -> list[dict[str, Any]]:
    """Return what the runs found; those that were done before are read. Without jobs one after another, here."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{run.name}.json" for run in runs]
    todo = [(run, file) for run, file in zip(runs, files, strict=True) if not file.exists()]
    if not jobs:
        for run, file in todo:
            file.write_text(json.dumps(carried_out(run)))
    elif todo:
        with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn")) as pool:
            for (_, file), found in zip(todo, pool.map(carried_out, [run for run, _ in todo]), strict=True):
                file.write_text(json.dumps(found))
    return [json.loads(file.read_text()) for file in files]
