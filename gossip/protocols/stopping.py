"""Stopping before `[stop] rounds`: what a run asks for, how many peers are enough, and what one wants by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Why: TypeAlias = Literal["patience", "target"]
"""Why a peer wants to stop."""

WHYS: tuple[str, ...] = get_args(Why)

ROUNDS = "rounds"
"""Why a peer has stopped that has done all rounds of `[stop]`."""

PEERS_MAX = 1024
"""Peers of a run that may stop early: what each wants is told to each by each, so it costs their number squared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """What `[stop]` asks for, and what the protocol cannot know of the run by itself."""

    run: str
    """The run's id: what was signed for another run says nothing in this one."""
    better: Callable[[float, float], bool]
    """Whether the first score is better than the second."""
    patience: int | None = None
    """Evaluations without improvement after which a peer wants to stop."""
    min_delta: float = 0.0
    """A score that is better by no more than this is no improvement."""
    target: float | None = None
    """A score with which a peer wants to stop."""
    liars: int = 1
    """f, how many peers may say what is not so."""
    hops: int = 1
    """The longest way from peer to peer."""


def enough(peers: int, liars: int) -> int:
    """Return how many of `peers` have to want to stop, so that more than half of the honest ones do among them.

    With n peers of which f lie, at most f of those who want to are liars: ⌊(n - f)/2⌋ + 1 + f. Where n >= 3·f + 1 the
    honest ones are enough by themselves; with fewer, liars that keep silent can prevent it.
    """
    liars = max(0, min(liars, peers - 1))
    return min(peers, (peers - liars) // 2 + 1 + liars)


class OwnScore:
    """Whether one peer wants to stop, by its own scores.

    Args:
        rule: what counts as improvement, and how long it is waited for.
        state: what `saved` returned for the checkpoint; else empty.
    """

    __slots__ = ("_best", "_judged", "_rule", "_unimproved")

    def __init__(self, rule: StopRule, state: Mapping[str, int | float | str]) -> None:
        self._rule = rule
        best = state.get("stop_best")
        self._best: float | None = None if best is None else float(best)
        self._unimproved = int(state.get("stop_unimproved", 0))
        self._judged = int(state.get("stop_judged", -1))

    def judge(self, round: int, score: float | None) -> Why | None:
        """Return why the peer wants to stop after `round`, if it does; a score that is no number is no improvement."""
        if round <= self._judged:
            return None  # done again after a restart
        self._judged = round
        rule = self._rule
        known = score is not None and math.isfinite(score)
        if score is not None and known and self._improves(score):
            self._best, self._unimproved = score, 0
        else:
            self._unimproved += 1
        target = rule.target
        if score is not None and known and target is not None and not rule.better(target, score):
            return "target"
        return "patience" if rule.patience is not None and self._unimproved >= rule.patience else None

    def _improves(self, score: float) -> bool:
        best = self._best
        return best is None or (self._rule.better(score, best) and abs(score - best) > self._rule.min_delta)

    def saved(self) -> Mapping[str, int | float | str]:
        """Return what a checkpoint must hold of it."""
        best = {} if self._best is None else {"stop_best": self._best}
        return {**best, "stop_unimproved": self._unimproved, "stop_judged": self._judged}
