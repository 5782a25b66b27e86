"""Token accounts: how often a peer may push (Danner and Jelasity, ICDCS 2018).

Every period brings a token. It is spent at once on a push of the own accord, with a probability that rises with the
balance a, or saved; saved tokens pay for pushes in answer to news, so that what is new spreads fast and the long-run
rate stays one per period:

    strategy                 PROACTIVE(a)                                  REACTIVE(a, useful)
    purely proactive         1                                             0
    simple (C)               1 if a ≥ C else 0                             1 if a > 0 else 0
    generalised (A, C)       1 if a ≥ C else 0                             ⌊(A - 1 + a) / A⌋, half of it if not useful
    randomised (A, C)        0 below A - 1, 1 above C, linear between      a / A rounded at random, 0 if not useful
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gossip.protocols.push.settings import PushSettings

Draw = Callable[[], float]
"""Uniform on [0, 1)."""


class TokenAccount:
    """One account; partitioned models have one for each part.

    Args:
        settings: the strategy, A and C.
        balance: tokens saved so far.
    """

    __slots__ = ("_settings", "balance")

    def __init__(self, settings: PushSettings, balance: int = 0) -> None:
        self._settings = settings
        self.balance = min(max(0, balance), settings.token_capacity)

    def tick(self, draw: Draw) -> bool:
        """Take in one period's token; return whether to push now."""
        chance = self.proactive()
        if chance >= 1 or (chance > 0 and draw() < chance):
            return True
        self.balance += 1
        return False

    def react(self, *, useful: bool, draw: Draw) -> int:
        """Return how many pushes to answer news with; they are paid for."""
        pushes = min(self.balance, self.reactive(useful=useful, draw=draw))
        self.balance -= pushes
        return pushes

    def proactive(self) -> float:
        """Return PROACTIVE(a), a probability."""
        settings, a = self._settings, self.balance
        if settings.tokens == "proactive" or a >= settings.token_capacity:
            return 1.0
        if settings.tokens == "randomised":
            A, C = settings.token_reach, settings.token_capacity
            return max(0.0, (a - A + 1) / (C - A + 1))
        return 0.0

    def reactive(self, *, useful: bool, draw: Draw) -> int:
        """Return REACTIVE(a, u), before what the balance allows."""
        settings, a, A = self._settings, self.balance, self._settings.token_reach
        if settings.tokens == "simple":
            return int(a > 0)
        if settings.tokens == "generalised":
            return (A - 1 + a) // (A if useful else 2 * A)
        if settings.tokens == "randomised" and useful:
            whole = math.floor(a / A)
            return whole + int(draw() < a / A - whole)
        return 0
