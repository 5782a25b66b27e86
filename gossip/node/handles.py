"""The node's model handles: a name for a vector that the learning thread will compute."""

from __future__ import annotations

from typing import Any

import torch
import trio


class Deferred:
    """A model whose value comes later. It may be sent, merged or trained before.

    The vector is never changed once it is set: a transfer may still be reading it.
    """

    __slots__ = ("_learned_size", "_ready", "_vector")

    def __init__(self, learned_size: int, vector: torch.Tensor | None = None) -> None:
        self._learned_size = learned_size
        self._vector = vector
        self._ready = trio.Event()
        if vector is not None:
            self._ready.set()

    def set(self, vector: torch.Tensor) -> None:
        """Give the value (from the event loop's thread)."""
        self._vector = vector
        self._ready.set()

    def ready(self) -> bool:
        """Return whether the value is there."""
        return self._vector is not None

    @property
    def vector(self) -> torch.Tensor:
        """The whole vector; the learning thread computes handles in order, so its inputs are always there."""
        assert self._vector is not None, "a handle was used before its value was computed"
        return self._vector  # (parameters,)

    async def wait(self) -> torch.Tensor:
        """Return the slots that travel, once they are computed."""
        await self._ready.wait()
        return self.vector[: self._learned_size]  # (learned,)


def travelled(model: Any, learned_size: int) -> Any:
    """Return the values of a received model: as they came, or of a handle that was made of them."""
    return model.vector[:learned_size] if isinstance(model, Deferred) else model
