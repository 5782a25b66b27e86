"""The node's model handles: a name for a vector that the learning thread will compute."""

from __future__ import annotations

import sys
from typing import Any, Generic, TypeVar

import torch
import trio

T = TypeVar("T")


class Deferred:
    """A model whose value comes later. It may be sent, merged or trained before.

    The vector is never changed once it is set, for a transfer may still be reading it; unless nobody else has the
    handle, see `is_only_held_by_a_job`.
    """

    __slots__ = ("__weakref__", "_learned_size", "_ready", "_vector")

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


class Pending(Generic[T]):
    """A value that the learning thread will compute."""

    __slots__ = ("_ready", "_value")

    def __init__(self) -> None:
        self._value: T | None = None
        self._ready = trio.Event()

    def set(self, value: T) -> None:
        """Give the value (from the event loop's thread)."""
        self._value = value
        self._ready.set()

    def ready(self) -> bool:
        """Return whether the value is there."""
        return self._ready.is_set()

    async def wait(self) -> T:
        """Return the value, once it is computed."""
        await self._ready.wait()
        return self.value

    @property
    def value(self) -> T:
        """The value, which must be there."""
        assert self._value is not None, "a value was used before it was computed"
        return self._value


def is_only_held_by_a_job(thing: object) -> bool:
    """Return whether a learning thread's job, that has one reference to `thing`, is the last to need it.

    Who reads a model – a transfer, a checkpoint being written, a protocol that may send it again – has its handle as
    long, or a received model's tensor. Where there is no other reference, nobody can come by one any more.
    """
    return sys.getrefcount(thing) <= _references_of_one()


def _references_of_one() -> int:
    """Return what is counted of a thing that one reference holds.

    That is three, its own, that of the call which asks, and the argument of the question; and four where something
    looks into calls, as torch does from the first compiled network on.
    """
    alone = object()
    return _references(alone)


def _references(thing: object) -> int:
    return sys.getrefcount(thing)


def travelled(model: Any, learned_size: int) -> Any:
    """Return the values of a received model: as they came, or of a handle that was made of them."""
    return model.vector[:learned_size] if isinstance(model, Deferred) else model
