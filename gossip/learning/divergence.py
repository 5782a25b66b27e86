"""When a peer's model has diverged, and what is the likely cause: one definition for nodes and simulations.

It has, the first time that one of these holds:

    gradient    a mini-batch of a local update gave a gradient that is not finite, and was skipped
    loss        the mean loss of a local update is above 5 · base, or not a number
    test-loss   its loss on the test samples is above 100 · base, or not a number
    weights     the root mean square of what it has learned is above 10 · max(1, the same at the start)

    base = max(ln 10, the loss of who knows nothing, the loss of its first mini-batch)

With classes, ln(classes) is the loss of who knows nothing; a network may begin above it and come down. Five times
base, with ten classes 11.5, is a mean probability of 1e-5 for what is right. The worst mean of an update was 1.1 · base
in the library's scenarios, and 1.5 · base where attackers had brought an average down to chance. Test samples may be of
classes that a peer has never seen, which it rules out with growing conviction: 13 · base with one class a peer and
momentum.

Nothing is computed for this: losses and skipped mini-batches are there after each local update, loss and models at each
evaluation. A peer is watched until the first sign; what comes later follows from that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gossip.learning.scales import Scales
from gossip.merging.sanitise import norm_of

LOSS_FACTOR = 5.0
TEST_FACTOR = 100.0
RMS_FACTOR = 10.0
CLASSES_MIN = 10
"""Of two classes ln 2 · 5 is a probability of 3 % for what is right, which is a bad peer and no divergence."""

GRADIENT, LOSS, TEST_LOSS, WEIGHTS = "gradient", "loss", "test-loss", "weights"
"""What shows it."""

RATE, INPUTS, START, RECEIVED, MERGE = "learning-rate", "inputs", "start", "received", "merge"
"""What may have caused it."""

EVENT = "diverged"
"""Its name in events.jsonl."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What showed that a model has diverged."""

    reason: str
    round: int
    """As records count: 1 is the first."""
    own: bool = False
    """The round's own steps did it: the model that they began with was not so."""
    initial: bool = False
    """It was so before anything was learnt."""
    loss: float = math.nan
    limit: float = math.nan
    """Of the loss, or of the root mean square."""
    skipped: int = 0
    steps: int = 0
    """Mini-batches of the local update."""
    rms: float = math.nan

    def __str__(self) -> str:
        if self.reason == GRADIENT:
            return f"{self.skipped} of {self.steps} mini-batches gave gradients that are not finite and were skipped"
        if self.reason == WEIGHTS:
            found = (
                f"have grown to a root mean square of {self.rms:.3g}"
                if self.rms == self.rms
                else "are not finite"
            )
            return f"its weights {found}"
        whose = "training loss" if self.reason == LOSS else "loss on the test samples"
        if not math.isfinite(self.loss):
            return f"its {whose} is not finite"
        return f"its {whose} is {self.loss:.3g}, and above {self.limit:.3g} nothing is learnt"


class Watch:
    """Watches one peer's model until the first sign.

    Args:
        chance: the loss of who knows nothing, where the objective knows that (`Objective.chance`).
        rms: the root mean square of what is learned, at the start.
    """

    __slots__ = ("_base", "_begun", "_rms_max", "limit")

    def __init__(self, *, chance: float, rms: float) -> None:
        self._base = max(chance, math.log(CLASSES_MIN))
        self._begun = False
        self._rms_max = RMS_FACTOR * max(1.0, rms if math.isfinite(rms) else 1.0)
        self.limit = -math.inf
        """A local update without skipped mini-batches and with no larger mean loss need not be shown to `trained`."""

    def trained(self, *, round: int, loss: float, first_loss: float, steps: int, skipped: int) -> Sign | None:
        """Look at a local update of `round`, counted from 0; NaN losses are of updates that were skipped whole."""
        initial = not self._begun and round == 0 and not math.isfinite(first_loss)
        if not self._begun:
            self._begun = True
            if math.isfinite(first_loss):
                self._base = max(self._base, first_loss)
            self.limit = LOSS_FACTOR * self._base
        if loss <= self.limit and not skipped:
            return None
        return Sign(
            reason=GRADIENT if skipped else LOSS,
            round=round + 1,
            own=first_loss <= self.limit,
            initial=initial,
            loss=loss,
            limit=self.limit,
            skipped=skipped,
            steps=steps,
        )

    def evaluated(self, *, round: int, loss: float, rms: float) -> Sign | None:
        """Look at an evaluation after `round` rounds; `rms` is the root mean square of what is learned."""
        limit = TEST_FACTOR * self._base
        if not loss <= limit:
            return Sign(reason=TEST_LOSS, round=round, loss=loss, limit=limit, rms=rms)
        if not rms <= self._rms_max:
            return Sign(reason=WEIGHTS, round=round, loss=loss, limit=self._rms_max, rms=rms)
        return None


def rms_of(learned: Tensor) -> float:
    """Return the root mean square of what is learned of a model [L]; NaN where a value is not finite."""
    return norm_of(learned) / math.sqrt(max(1, len(learned)))


def cause_of(sign: Sign, *, lr: float, scales: Scales, rule: str | None = None) -> tuple[str, str]:
    """Return the kind of the likely cause, and a clause that tells of it.

    Args:
        sign: what was seen.
        lr: `[local] lr`.
        scales: of the inputs that the peer trains on.
        rule: what the peer's merge rule is to blame for, a clause, where it is.
    """
    if rule is not None:
        return MERGE, rule
    if scales.unscaled:
        return INPUTS, f"inputs that are not scaled: {scales}"
    if sign.initial:
        return START, "what the network makes of its inputs, for it was so before the first step"
    merged = "" if sign.own else ", or else a model that it merged"
    return RATE, f"[local] lr = {lr:g}, too large for this network and these data{merged}"


def told(peer: str, sign: Sign, cause: tuple[str, str]) -> dict[str, Any]:
    """Return what records say of it, as plain values that JSON knows."""
    kind, clause = cause
    return {
        "round": sign.round,
        "reason": sign.reason,
        "cause": kind,
        "evidence": str(sign),
        "sentence": _sentence(peer, sign.round, str(sign), clause),
        "own": sign.own,
        "loss": _finite(sign.loss),
        "limit": _finite(sign.limit),
        "skipped": sign.skipped,
        "steps": sign.steps,
        "rms": _finite(sign.rms),
    }


def with_attackers(entry: Mapping[str, Any], *, lr: float, attackers: int) -> dict[str, Any]:
    """Return what a peer has `told` as it would have, had it known that so many others attack.

    What it did itself before it merged anything stays its own, and inputs and network are as they are.
    """
    if entry["cause"] != RATE or (entry.get("own") and entry["round"] == 1):
        return dict(entry)
    clause = f"what the merge rule let through of {attackers} that attack, or else [local] lr = {lr:g}"
    sentence = _sentence(entry["peer"], entry["round"], entry["evidence"], clause)
    return {**entry, "cause": RECEIVED, "sentence": sentence}


def is_told(entry: Mapping[str, Any]) -> bool:
    """Return whether a line of events.jsonl tells of a divergence, whole enough to be told again."""
    return (
        entry.get("event") == EVENT
        and isinstance(entry.get("round"), int)
        and all(isinstance(entry.get(key), str) for key in ("peer", "cause", "evidence", "sentence"))
    )


def _sentence(peer: str, round: int, evidence: str, clause: str) -> str:
    return f"{peer} diverges in round {round}: {evidence}; the likely cause is {clause}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
