"""The process's own random generators, from which layers and users' networks draw while they compute.

torch's layers (dropout) draw from torch's generator; a user's network may draw from `random` or numpy's as well. Equal
seeds give equal runs only where all that are drawn from are seeded before each pass, and put back afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Generators:
    """From which generators a network draws; none of them by default. Made by `Watch`."""

    torch: bool = False
    others: bool = False
    """`random`'s or numpy's."""

    def __bool__(self) -> bool:
        """Whether anything is drawn."""
        return self.torch or self.others

    def __or__(self, other: Generators) -> Generators:
        """Return those of both."""
        return Generators(self.torch or other.torch, self.others or other.others)

    def seed(self, seed: int | None, like: Tensor) -> None:
        """Set them, for a network that computes where `like` is; `None`: as they are."""
        if seed is None:
            return
        torch.default_generator.manual_seed(seed)
        if like.is_cuda:
            torch.cuda.manual_seed(seed)
        elif like.is_mps:
            torch.mps.manual_seed(seed)
        if self.others:
            random.seed(seed)
            np.random.seed(seed % 2**32)

    @contextmanager
    def kept(self, like: Tensor) -> Iterator[None]:
        """Put them back at the end."""
        if not self:
            yield
            return
        state, numpy_state = random.getstate(), np.random.get_state()
        with torch.random.fork_rng([like.device] if like.is_cuda else []):
            try:
                yield
            finally:
                random.setstate(state)
                np.random.set_state(numpy_state)


NONE = Generators()


class Watch:
    """Notes the states, to tell later what has been drawn from."""

    def __init__(self) -> None:
        self._before = _states()

    def drawn(self) -> Generators:
        """Return what was drawn from since."""
        (torch_then, *others_then), (torch_now, *others_now) = self._before, _states()
        return Generators(torch_then != torch_now, others_then != others_now)


def _states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    torch_state = bytes(torch.default_generator.get_state().numpy())
    return torch_state, random.getstate(), name, np.asarray(keys).tobytes(), *rest
