"""How long a peer computes: seconds per sample, with fast and slow machines among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gossip import seeding
from scenarios.sections import ComputeSettings


class ComputeTimes:
    """Seconds of each peer's local update; its speed is drawn once.

    Args:
        settings: `[compute]`.
        samples: per peer, how many samples one local update passes over.
        sam: sharpness-aware: two passes per sample.
        seed: of the draws.
        seconds_per_sample: of each peer, where a trace says it, instead of `[compute]`'s with its spread.
        steps: per peer, in how many mini-batches; only where updates of other numbers are asked for.
    """

    def __init__(
        self,
        settings: ComputeSettings,
        *,
        samples: list[int],
        sam: bool,
        seed: int,
        seconds_per_sample: Sequence[float] | None = None,
        steps: Sequence[int] = (),
    ) -> None:
        rng = seeding.generator(seed, "compute")
        passes = 2 if sam else 1
        factors = [
            math.exp(settings.spread * float(draw)) if settings.spread else 1.0
            for draw in rng.standard_normal(len(samples))
        ]
        slow = set(
            rng.choice(len(samples), size=round(settings.stragglers * len(samples)), replace=False).tolist()
        )
        each_s = seconds_per_sample or [settings.seconds_per_sample] * len(samples)
        self._seconds = [
            each_s[i] * count * passes * factor * (settings.slowdown if i in slow else 1.0)
            for i, (count, factor) in enumerate(zip(samples, factors, strict=True))
        ]
        self._steps = steps
        self.stragglers = sorted(slow)

    def __call__(self, peer: int, round: int, steps: int | None = None) -> float:
        """Return the seconds that `peer` trains in `round`, with so many mini-batches if not with the usual ones."""
        usual_s = self._seconds[peer]
        return usual_s if steps is None else usual_s * steps / self._steps[peer]
