"""Weights of those that push more seldom, or whose model is old, where peers have no rounds in common.

    rate        a_j ∝ min(⌈τ_j / Δ⌉, K)        FedFix (Fraboni, Vidal, Kameni and Lorenzi, JMLR 2023, arXiv 2206.10189)
    staleness   a_j ∝ (1 + u_j)^(−1/2)         FedBuff (Nguyen et al., AISTATS 2022, arXiv 2106.06639)

τ_j is the time between arrivals from a sender, by the own clock, in windows of length Δ in which the receiver merges:
a machine that is n times slower comes into every n-th merge and counts n times in it, so that over time all count
alike. Here Δ is the time in which a neighbour is to be heard (the period, over the share of neighbours that a push goes
to), and τ_j / Δ is rounded to the nearest whole number: periods that jitter would be rounded up half of the time.

u_j is by how many own periods a model is behind, by its age or by the time that it has lain here, whichever is more: a
sender's word alone makes nothing young.
"""

from __future__ import annotations

from gossip.protocols.base import PeerId

NEW_SHARE = 0.1
"""Of the latest interval in the mean of them: pushes go to random neighbours, and one interval tells little."""


class Rates:
    """How often each sender comes; bounded by the number of contacts.

    Args:
        interval_max: K.
    """

    __slots__ = ("_interval_max", "_intervals_s", "_last_s")

    def __init__(self, *, interval_max: int) -> None:
        self._interval_max = interval_max
        self._last_s: dict[PeerId, float] = {}
        self._intervals_s: dict[PeerId, float] = {}

    def came(self, sender: PeerId, now_s: float) -> None:
        """Note an arrival."""
        last_s = self._last_s.get(sender)
        if last_s is not None:
            interval_s = now_s - last_s
            before_s = self._intervals_s.get(sender, interval_s)
            self._intervals_s[sender] = (1 - NEW_SHARE) * before_s + NEW_SHARE * interval_s
        self._last_s[sender] = now_s

    def factor(self, sender: PeerId, *, window_s: float) -> float:
        """Return min(⌈τ/Δ⌉, K); 1 of whom too little is known."""
        windows = round(self._intervals_s.get(sender, window_s) / window_s)
        return float(min(max(1, windows), self._interval_max))


def staleness(behind: int) -> float:
    """Return (1 + u)^(−1/2) of a model that is so many periods behind, not negative."""
    factor: float = (1 + max(0, behind)) ** -0.5
    return factor
