"""One peer's budget: what its local updates spend, what is left, and that it is written down before they begin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gossip.privacy.ledger import Ledger, Spent
from gossip.privacy.settings import PrivacySettings

SPENT = "spent"
"""Why an update is not done: it would spend more than `epsilon_max`."""

UNWRITTEN = "unwritten"
"""Why an update is not done: what it spends could not be written down."""


class Budget:
    """The privacy budget of one peer's samples.

    Args:
        settings: `[privacy]`.
        samples: how many the peer has.
        batch_size: `[local] batch_size`.
        steps: of one local update, or the most that there may be.
        ledger: what was spent before.
        write: brings a ledger's bytes to the disk before it returns; None: there is no disk (a simulated peer's).
    """

    def __init__(
        self,
        settings: PrivacySettings,
        *,
        samples: int,
        batch_size: int,
        steps: int,
        ledger: Ledger | None = None,
        write: Callable[[bytes], object] | None = None,
    ) -> None:
        self.settings = settings
        self.rate = rate_of(samples, batch_size)
        """q, with which a step takes each sample."""
        self._steps = steps
        self._write = write
        self._ledger = ledger or Ledger()
        self.refused: str | None = None
        """Why the last local update was not done, `SPENT` or `UNWRITTEN`; None where it was."""
        self.failure: OSError | None = None
        """Of the last write, where it failed."""

    @property
    def epsilon(self) -> float:
        """The ε spent so far."""
        return self._ledger.epsilon(self.settings.delta)

    @property
    def steps(self) -> int:
        """Steps counted so far."""
        return self._ledger.steps

    def spend(self, steps: int | None = None) -> bool:
        """Count a local update of so many steps, on the disk and then here; return whether it may be done."""
        settings = self.settings
        update = self._update if steps is None else self._update._replace(steps=steps)
        if self._ledger.epsilon_with(update, settings.delta) > (settings.epsilon_max or math.inf):
            self.refused = SPENT
            return False
        after = self._ledger.copy()
        after.add(update)
        if not self._written(after):
            self.refused = UNWRITTEN
            return False
        self._ledger, self.refused = after, None
        return True

    def begin(self) -> None:
        """Write the ledger as it is.

        Raises:
            OSError: it cannot be written.
        """
        if not self._written(self._ledger) and self.failure is not None:
            raise self.failure

    def planned(self, rounds: int) -> tuple[float, int]:
        """Return the ε after so many more local updates, and how many of them the budget allows."""
        delta, update = self.settings.delta, self._update

        def after(updates: int) -> float:
            return self._ledger.epsilon_with(update._replace(steps=updates * update.steps), delta)

        allowed, refused = 0, rounds + 1
        while refused - allowed > 1:
            middle = (allowed + refused) // 2
            if after(middle) <= (self.settings.epsilon_max or math.inf):
                allowed = middle
            else:
                refused = middle
        return after(rounds), allowed

    def told(self, rounds: int) -> str:
        """Return what is said at the start of a run with so many local updates still to be done."""
        settings, (planned, allowed) = self.settings, self.planned(rounds)
        before = f"{self.epsilon:.3g} spent before, " if self.steps else ""
        said = (
            f"DP-SGD of single samples, C = {settings.clip:g}, σ = {settings.noise:g}, q = {self.rate:.3g}, "
            f"{self._steps} steps an update: {before}{rounds} updates come to ε = {planned:.3g} at δ = "
            f"{settings.delta:g}, and the budget is {settings.epsilon_max:g}"
        )
        if allowed >= rounds:
            return said
        return f"{said}: it is spent after {allowed} of them, and the others only merge"

    def as_dict(self) -> dict[str, Any]:
        """Return what status and summary say."""
        settings = self.settings
        return {
            "epsilon": self.epsilon,
            "epsilon_max": settings.epsilon_max,
            "delta": settings.delta,
            "noise": settings.noise,
            "clip": settings.clip,
            "rate": self.rate,
            "steps": self.steps,
            "refused": self.refused,
        }

    @property
    def _update(self) -> Spent:
        return Spent(self.rate, self.settings.noise, self._steps)

    def _written(self, ledger: Ledger) -> bool:
        if self._write is None:
            return True
        try:
            self._write(ledger.encode(self.settings.delta))
        except OSError as error:
            self.failure = error
            return False
        self.failure = None
        return True


def rate_of(samples: int, batch_size: int) -> float:
    """Return q: each of the samples is taken so that `batch_size` are in the mean, or all where there are no more."""
    return min(1.0, batch_size / samples)
