"""The curves of a virtual run: models are evaluated many at a time, and averaged as they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from gossip.learning.evaluation import Evaluation
from gossip.protocols.base import Model, RoundCompleted
from gossip.telemetry.verdicts import Verdicts
from scenarios.records import Average, point_of
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.measures.own_tests import OwnTests
from scenarios.virtual.measures.prototypes import PrototypeScores

ROUNDS_OPEN_MAX = 16
WAITING_MIN = 64
"""Evaluations that are gathered at least, where there are few peers."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A measurement without what has to be computed for it."""

    entry: dict[str, Any]
    model: Model
    trained: Model
    peer: int
    before: Model | None = None
    """What the model was before final steps."""


@dataclass(slots=True)
class ModelSum:
    """Σx and Σ‖x - o‖² of one round's models; the origin o is the first, so that nothing cancels."""

    count: int = 0
    origin: NDArray[np.float64] | None = None
    total: NDArray[np.float64] | None = None
    squares: float = 0.0
    mean: NDArray[np.float32] | None = field(default=None)

    def add(self, vectors: NDArray[np.float32], learned: int) -> None:
        """Add models (n, P)."""
        if self.origin is None:
            self.origin = vectors[0].astype(np.float64)
            self.total = np.zeros_like(self.origin)
        with np.errstate(invalid="ignore"):  # of models that have diverged, which is told of
            offsets = np.subtract(vectors, self.origin, dtype=np.float64)
        self.count += len(vectors)
        assert self.total is not None
        self.total += offsets.sum(axis=0)
        whole = learned == offsets.shape[1]
        # Contiguous in both cases: the order of a sum, and so its last bit, depends on that.
        squares = np.square(offsets, out=offsets) if whole else np.square(offsets[:, :learned])
        self.squares += float(squares.sum())

    def average(self) -> NDArray[np.float32]:
        """Return x̄ (P,)."""
        assert self.origin is not None
        assert self.total is not None
        mean: NDArray[np.float32] = (self.origin + self.total / self.count).astype(np.float32)
        return mean

    def consensus_distance(self, learned: int) -> float | None:
        """Return sqrt(mean_i ‖x_i - x̄‖²) = sqrt(mean_i ‖x_i - o‖² - ‖x̄ - o‖²); None where models are not finite."""
        assert self.total is not None
        offset = self.total[:learned] / self.count
        square = self.squares / self.count - float(offset @ offset)
        return math.sqrt(max(0.0, square)) if math.isfinite(square) else None


class Measurements:
    """Gathers what rounds bring, evaluates in batches, and keeps sums per round.

    Args:
        learning: computes the models.
        peers: how many there are.
        attackers: positions of those whose models are nobody's concern.
        every: evaluate each so many rounds.
        rounds: the last round, which is always evaluated.
        chunk: models in memory at a time beside the peers' own.
    """

    compares_before: ClassVar[bool] = True
    """Whether a round's models before their exchange belong together, too."""

    def __init__(
        self,
        learning: BatchedLearning,
        *,
        peers: int,
        every: int,
        rounds: int,
        attackers: Collection[int] = (),
        chunk: int = 256,
    ) -> None:
        self._learning = learning
        self._own_tests = OwnTests(learning, peers=peers)
        self._attackers = frozenset(attackers)
        self._peers = peers - len(self._attackers)
        self._every = every
        self._rounds = rounds
        self._chunk = chunk
        self._waiting: list[Waiting] = []
        self._sums: dict[int, ModelSum] = {}
        self._sums_before: dict[int, ModelSum] = {}
        self._last_s = [0.0] * peers
        self.verdicts = [Verdicts() for _ in range(peers)]
        """Of each peer, on what it received; filled when its merges are computed."""
        self.sent_by_all: Callable[[], int] | None = None
        """Set where a round is completed by a few of the peers, for all of them."""
        self.prototypes: PrototypeScores | None = None
        """Set where tables of prototypes travel beside the models."""
        self.metrics: list[dict[str, Any]] = []
        self.on_measured: Callable[[Mapping[str, Any]], None] = lambda entry: None
        """Told each of them as it is made."""
        self.averages: dict[int, Average] = {}
        self.latest: dict[int, dict[str, Any]] = {}

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted, now_s: float) -> bool:
        """Note a peer's round; never ends the run."""
        seconds, self._last_s[peer.index] = now_s - self._last_s[peer.index], now_s
        last = event.last or event.round >= self._rounds
        if peer.index in self._attackers or (event.round % self._every and not last):
            return False
        entry = self._entry(peer, event, now_s, seconds)
        if self.sent_by_all is not None:
            entry["bytes_sent_by_all"] = self.sent_by_all()
        if self.prototypes is not None:
            entry.update(self.prototypes.told(peer))
        self._waiting.append(Waiting(entry, event.model, peer.trained, peer.index, event.before))
        if len(self._waiting) >= max(WAITING_MIN, self._peers):
            self.flush()
        return False

    def _entry(
        self, peer: VirtualPeer, event: RoundCompleted, now_s: float, seconds: float
    ) -> dict[str, Any]:
        return {
            "peer": peer.peer,
            "round": event.round,
            "time": now_s,
            "heard": event.heard,
            "expected": event.expected,
            "bytes_sent": peer.bytes_sent,
            "bytes_received": peer.bytes_received,
            "seconds": seconds,
        }

    def flush(self) -> None:
        """Evaluate what waits."""
        waiting, self._waiting = self._waiting, []
        # All at once: what is to be evaluated is shared among workers.
        evaluations = self._learning.evaluate([each.model for each in waiting])
        for start in range(0, len(waiting), self._chunk):
            chunk = slice(start, start + self._chunk)
            self._measure(waiting[chunk], evaluations[chunk])

    def finish(self) -> None:
        """Evaluate what waits, and the averages of rounds that some peers never did."""
        self.flush()
        for number in sorted(self._sums):
            self._close(number)

    def _measure(self, chunk: Sequence[Waiting], evaluations: Sequence[Evaluation]) -> None:
        ended = {place: each.before for place, each in enumerate(chunk) if each.before is not None}
        for place, evaluation in zip(ended, self._learning.evaluate(list(ended.values())), strict=True):
            chunk[place].entry["score_before_final"] = finite(evaluation.score)
        vectors = self._learning.stack([each.model for each in chunk]).cpu().numpy()
        for each, evaluation, rms in zip(chunk, evaluations, _rms(vectors[:, : self._learned]), strict=True):
            self._learning.watches.evaluated(
                each.peer, round=each.entry["round"], loss=evaluation.loss, rms=rms
            )
            each.entry.update(self._learning.task.objective.score.recorded(evaluation.score))
            each.entry["test_loss"] = finite(evaluation.loss)
            own = self._own_tests.evaluate(each.model, each.peer)
            each.entry.update(self._learning.task.objective.score.recorded_own(own))
            each.entry["loss"] = None if each.trained is None else finite(self._learning.loss(each.trained))
            if each.trained is not None and each.trained.epsilon is not None:
                each.entry["epsilon"] = each.trained.epsilon
            verdicts = self.verdicts[each.peer].take(each.entry["round"])
            if verdicts:
                each.entry["verdicts"] = verdicts
            self.metrics.append(each.entry)
            self.on_measured(each.entry)
            self.latest[each.peer] = each.entry
        by_round: dict[int, list[int]] = {}
        for place, each in enumerate(chunk):
            by_round.setdefault(point_of(each.entry), []).append(place)
        trained = [each.trained for each in chunk if each.trained is not None]
        before = None
        if self.compares_before and len(trained) == len(chunk):
            before = self._learning.stack(trained).cpu().numpy()
        for number, places in by_round.items():
            total = self._sums.setdefault(number, ModelSum())
            of = slice(None) if len(places) == len(chunk) else places
            total.add(vectors[of], self._learned)
            if before is not None:
                self._sums_before.setdefault(number, ModelSum()).add(before[of], self._learned)
            if total.count >= self._peers:
                self._close(number)
        if self.sent_by_all is not None:
            # The few who have a round have it at about the same time; sums of many rounds would fill the memory.
            for number in [number for number in self._sums if number < max(by_round) - ROUNDS_OPEN_MAX]:
                self._close(number)

    @property
    def _learned(self) -> int:
        return self._learning.task.space.learned_size

    def _close(self, number: int) -> None:
        total = self._sums.pop(number)
        before = self._sums_before.pop(number, None)
        evaluation = self._learning.task.evaluate(torch.from_numpy(total.average()))
        self.averages[number] = Average(
            consensus_distance=total.consensus_distance(self._learned),
            score=finite(evaluation.score),
            test_loss=finite(evaluation.loss) or 0.0,
            peers=total.count,
            consensus_before=(
                before.consensus_distance(self._learned)
                if before is not None and before.count == total.count
                else None
            ),
        )


def _rms(learned: NDArray[np.float32]) -> list[float]:
    """Return each model's root mean square (n, L); infinite or NaN where float32 cannot hold the squares."""
    means: list[float] = (np.einsum("nl,nl->n", learned, learned) / max(1, learned.shape[1])).tolist()
    return [math.sqrt(mean) if mean >= 0 else mean for mean in means]


def finite(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None
