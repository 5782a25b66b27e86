"""A chance that a test knows, in the place of the operating system's, which no two engines can be compared with."""

from __future__ import annotations

import numpy as np
import pytest

from gossip.learning.local_training import LocalTraining


class Seeded:
    """An entropy that a test knows: batches and noise each of a generator of their own."""

    def __init__(self, peer: str, round: int) -> None:
        seed = [sum(peer.encode()), round]
        self._batches = np.random.default_rng([*seed, 0])
        self._noise = np.random.default_rng([*seed, 1])

    def chosen(self, samples, rate):
        return np.flatnonzero(self._batches.random(samples) < rate)

    def normals(self, count):
        return self._noise.standard_normal(count)


def know(patch: pytest.MonkeyPatch) -> None:
    """Let all private local updates that are set up from now on draw from `Seeded`."""
    training = LocalTraining.__init__

    def known(self, *given, **more):
        training(self, *given, **more)
        self.private.entropy_of = Seeded

    patch.setattr(LocalTraining, "__init__", known)
