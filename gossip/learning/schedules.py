"""The learning rate of a round: a pure function of the settings, the same at all peers."""

from __future__ import annotations

import math

from gossip.learning.settings import LocalSettings


def learning_rate(settings: LocalSettings, round: int, rounds: int | None) -> float:
    """Return η of `round` (from 0) of `rounds`.

    Over a warm-up of w rounds it is lr · (round + 1) / (w + 1). Then, with p from 0 after the warm-up to 1 at the last
    round:

        exponential   lr · lr_decay^round
        cosine        lr · (f + (1 − f) (1 + cos πp) / 2)      f = lr_final
        linear        lr · (1 − (1 − f) p)

    Where nobody knows how many rounds there are (`rounds` None) p is 0.
    """
    if settings.schedule == "exponential":
        eta = settings.lr * settings.lr_decay**round
    else:
        length = 0 if rounds is None else rounds - 1 - settings.lr_warmup
        p = min(1.0, max(0, round - settings.lr_warmup) / length) if length > 0 else 0.0
        share = (1 + math.cos(math.pi * p)) / 2 if settings.schedule == "cosine" else 1 - p
        eta = settings.lr * (settings.lr_final + (1 - settings.lr_final) * share)
    if round < settings.lr_warmup:
        eta *= (round + 1) / (settings.lr_warmup + 1)
    return eta
