"""As many steps as fit a time: machines that differ in speed end their local updates together.

FedCompass (Li, Chard, Kim et al., ICLR 2024, arXiv 2309.14675) gives each client the number of local steps that lets
a group of them arrive at one moment. A peer does that for itself, by a time that all have in common, Δ:

    K = clamp(⌊Δ / s⌋, K_min, K_max)            K_min, until something was measured
    s ← 0.1 s + 0.9 · (seconds of the last local update / its steps)

The paper's server knows when it gave work out and counts the way back in; here Δ is the time of the local update alone,
and what transfers take is waited for as ever. No clock is shared: each peer begins when its own round begins.
"""

from __future__ import annotations

from gossip.learning.settings import LocalSettings

OLD_SHARE = 0.1
"""Of what was known of a step's length before the last update: machines change their load, and few updates tell."""


class StepsByDeadline:
    """One peer's, of one process: a new one measures anew.

    Args:
        settings: `[local]`, with a deadline.
    """

    __slots__ = ("_deadline_s", "_least", "_most", "_step_s")

    def __init__(self, settings: LocalSettings) -> None:
        assert settings.deadline_s is not None
        self._deadline_s = settings.deadline_s
        self._least, self._most = settings.steps_min, settings.steps_max
        self._step_s: float | None = None

    @classmethod
    def of(cls, settings: LocalSettings) -> StepsByDeadline | None:
        """Return one where there is a deadline."""
        return None if settings.deadline_s is None else cls(settings)

    def steps(self) -> int:
        """Return K of the local update that begins now."""
        if self._step_s is None:
            return self._least
        fits = self._deadline_s / self._step_s if self._step_s > 0 else self._most
        return int(min(max(fits, self._least), self._most))

    def took(self, seconds: float, *, steps: int) -> None:
        """Note how long a local update of so many steps took."""
        if steps > 0:
            last = seconds / steps
            before = last if self._step_s is None else self._step_s
            self._step_s = OLD_SHARE * before + (1 - OLD_SHARE) * last
