"""A model of which only some numbers came: the receiver fills in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

if TYPE_CHECKING:
    from torch import Tensor


class Partial(NamedTuple):
    """What came of a vector."""

    values: Tensor
    """(k,), float32."""
    places: Tensor
    """(k,), int64, ascending: where they belong."""
    of: int
    """Numbers of the whole vector."""


Received: TypeAlias = Union["Tensor", Partial]
"""What comes of a model: all of it (L,), or some numbers."""


def completed(own: Tensor, received: Received) -> Tensor:
    """Return what came, laid over a copy of `own` (L,) where that is not all."""
    if not isinstance(received, Partial):
        return received
    return own.clone().index_copy_(
        0, received.places.to(own.device), received.values.to(own.device, own.dtype)
    )
