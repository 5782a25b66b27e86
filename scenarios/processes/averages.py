"""The average model, which no peer of a decentralized run ever holds: computed from the peers' snapshots."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from gossip.errors import SettingError
from gossip.learner import check_parts
from gossip.learning.objectives.score import ACCURACY
from gossip.learning.task import Task
from gossip.probing import probe
from gossip.storage.round_files import round_files
from scenarios.attacks.base import Scene, try_out
from scenarios.attacks.choice import Samples
from scenarios.records import Average
from scenarios.scenario import ScenarioSettings
from scenarios.steps import doing

Vector: TypeAlias = NDArray[np.float32]
Vectors: TypeAlias = Callable[[], Iterator[Vector]]


def load_task(scenario: ScenarioSettings) -> Task:
    """Load data and model as a peer would, so that mistakes in them come up once, before anything starts.

    So do those in `[attack]` that only the data can tell.

    Raises:
        SettingError, DataError: one sentence.
    """
    doing("loading data and model")
    task = Task(
        data=scenario.data,
        model=scenario.model,
        local=scenario.local,
        seed=scenario.seed,
        folder=Path.cwd(),
        rounds=scenario.stop.rounds,
        objective=scenario.objective,
        outer=scenario.outer,
        privacy=scenario.privacy,
    )
    task.check()
    score = task.objective.score
    if scenario.stop.target_accuracy is not None and score != ACCURACY:
        raise SettingError(
            f"[stop] target_accuracy = {scenario.stop.target_accuracy}: the objective is scored by {score.label}; "
            "write target_score"
        )
    check_parts(task, scenario.protocol.load().parts(scenario.protocol), scenario.merge.load())
    doing(f"dividing the data among {scenario.scenario.peers} peers")
    task.partition(scenario.scenario.peers)
    doing("trying the stages on a model of this size")
    probe(
        task,
        merge=scenario.merge,
        outgoing=scenario.outgoing,
        codec=scenario.codec,
        peers=scenario.scenario.peers,
    )
    _check_attack(scenario, task)
    return task


def _check_attack(scenario: ScenarioSettings, task: Task) -> None:
    attackers, peers = scenario.attackers, scenario.scenario.peers
    if not attackers:
        return
    honest = set(range(peers)) - set(attackers)
    scenario.attack.check_samples(
        Samples(
            attackers=len(attackers),
            classifies=task.objective.classifies,
            classes=task.dataset.classes,
            shape=task.dataset.input_shape,
            tested=frozenset(task.dataset.y_test.tolist() if task.objective.classifies else ()),
            familiar_min=lambda: min(len(task.familiar(peer, peers)) for peer in honest),
        )
    )


def try_attack(scenario: ScenarioSettings, task: Task) -> None:
    """Try what attackers do, if it is a user's: a process that fails alone would only be missed."""
    if scenario.attackers:
        scene = Scene(task=task, peers=scenario.scenario.peers, attackers=scenario.attackers)
        try_out(scenario.attack, scene, name=scenario.peer_names[scenario.attackers[0]], seed=scenario.seed)


class Averages:
    """Averages snapshots as soon as every peer has left one of a round, and removes them.

    Only two vectors are in memory at a time, whatever the number of peers.
    """

    def __init__(self, task: Task, homes: Mapping[str, Path], *, keep: bool) -> None:
        self.task = self._task = task
        self._homes = homes
        self._keep = keep
        self.by_round: dict[int, Average] = {}

    def advance(self, rounds: Mapping[str, int]) -> None:
        """Average the rounds that all peers have passed.

        Args:
            rounds: peer -> the last round it has told of. One that skips rounds leaves no snapshot of them.
        """
        if len(rounds) < len(self._homes):
            return
        passed = min(rounds.values())
        for number in sorted(self._waiting()):
            if number <= passed:
                self._average_round(number)

    def finish(self) -> None:
        """Average what is left, rounds that some peers never reached, when no peer writes any more."""
        for number in sorted(self._waiting()):
            self._average_round(number)
        # Not earlier: a peer may be about to write into the folder that has just become empty.
        for home in self._homes.values():
            with contextlib.suppress(OSError):
                (home / "snapshots").rmdir()  # only where it is empty

    def _average(self, vectors: Vectors) -> Average | None:
        """Return the average's accuracy and the consensus distance; `vectors` is called twice, one pass each."""
        total, count = np.zeros(self._task.space.size), 0
        for vector in vectors():
            total += vector
            count += 1
        if not count:
            return None
        mean = total / count  # (parameters,) float64
        learned = self._task.space.learned_size
        squares = sum(float(np.sum(np.square(vector[:learned] - mean[:learned]))) for vector in vectors())
        evaluation = self._task.evaluate(torch.from_numpy(mean.astype(np.float32)))
        return Average(
            consensus_distance=math.sqrt(squares / count),
            score=evaluation.score,
            test_loss=evaluation.loss,
            peers=count,
        )

    def final(self) -> tuple[Average | None, str | None]:
        """Return the average of the finished models, and the SHA-256 of all of them in peer order if all are there."""

        def read(path: Path) -> Vector:
            vector: Vector = self._task.space.flatten(safetensors.torch.load_file(path)).numpy()
            return vector

        files = [home / "model.safetensors" for home in self._homes.values()]
        digest, count = hashlib.sha256(), 0
        for vector in _read_each(files, read):
            digest.update(np.ascontiguousarray(vector, dtype="<f4").data)
            count += 1
        return self._average(lambda: _read_each(files, read)), digest.hexdigest() if count == len(
            files
        ) else None

    def final_models(self) -> Iterator[torch.Tensor]:
        """Yield the finished models [P] that are there."""
        for home in self._homes.values():
            with contextlib.suppress(OSError, safetensors.SafetensorError):
                yield self._task.space.flatten(safetensors.torch.load_file(home / "model.safetensors"))

    def _waiting(self) -> set[int]:
        rounds = {round for home in self._homes.values() for round in round_files(home / "snapshots")}
        return rounds - self.by_round.keys()

    def _average_round(self, number: int) -> None:
        files = [home / "snapshots" / f"round-{number:08d}.safetensors" for home in self._homes.values()]
        average = self._average(lambda: _read_each(files, _snapshot))
        if average is not None:
            self.by_round[number] = average
        if not self._keep:
            for path in files:
                path.unlink(missing_ok=True)


def _read_each(files: Iterable[Path], read: Callable[[Path], Vector]) -> Iterator[Vector]:
    """Yield what can be read: a peer may have been killed before, or while writing it."""
    for path in files:
        try:
            yield read(path)
        except (OSError, safetensors.SafetensorError):
            continue


def _snapshot(path: Path) -> Vector:
    with safetensors.safe_open(path, framework="np") as file:
        vector: Vector = file.get_tensor("vector")
    return vector
