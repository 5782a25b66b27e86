"""float16 and bfloat16: every number rounded to the nearest, ties to even, 2 bytes each, little-endian.

float16 (IEEE 754 binary16) has 11 significant bits and ends at 65 504: for models whose weights are of order one. What
is finite and larger is sent as ±65 504; infinities and what is not a number pass, for the receiver to refuse. bfloat16
has 8 significant bits and float32's range: for anything whose scale is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from gossip.draws import Draws
from gossip.wire.codecs.base import Codec
from gossip.wire.tensors import TensorSpec, WireTensor, empty, to_torch

PIECE = 1 << 22
"""Numbers that are looked at and rounded at once: they stay in the cache meanwhile."""


class BFloat16(Codec):
    """One bfloat16 tensor."""

    dtype: ClassVar[torch.dtype] = torch.bfloat16

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return one tensor (elements,)."""
        return (self._spec(elements),)

    def encode(self, vector: torch.Tensor, draws: Draws | None = None) -> tuple[WireTensor, ...]:
        """Return the rounded vector."""
        encoded = empty(self._spec(len(vector)), self.for_coded)
        rounded = to_torch(encoded)
        for start in range(0, len(vector), PIECE):
            self._round(vector[start : start + PIECE], out=rounded[start : start + PIECE])
        return (encoded,)

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Return the vector as float32, which holds all of these numbers."""
        (tensor,) = tensors
        numbers = to_torch(empty(TensorSpec("float32", tensor.shape), self.for_decoded))
        return numbers.copy_(to_torch(tensor))

    def coded(self, vectors: torch.Tensor, draws: Sequence[Draws]) -> torch.Tensor:
        """Round all at once."""
        rounded = torch.empty(vectors.shape, dtype=self.dtype, device=vectors.device)
        self._round(vectors, out=rounded)
        return rounded.to(torch.float32)

    def _spec(self, elements: int) -> TensorSpec:
        return TensorSpec(str(self.dtype).removeprefix("torch."), (elements,))

    def _round(self, numbers: torch.Tensor, *, out: torch.Tensor) -> None:
        out.copy_(numbers)


class Float16(BFloat16):
    """One float16 tensor."""

    dtype: ClassVar[torch.dtype] = torch.float16

    def _round(self, numbers: torch.Tensor, *, out: torch.Tensor) -> None:
        out.copy_(_clamped(numbers))


def _clamped(numbers: torch.Tensor) -> torch.Tensor:
    """Return `numbers` as they are, unless something finite is too large for float16."""
    if not numbers.numel():
        return numbers
    most = torch.finfo(torch.float16).max
    least, largest = torch.aminmax(numbers)
    # What is no number makes both of these none.
    if bool(least >= -most) and bool(largest <= most):
        return numbers
    return torch.where(numbers.isinf(), numbers, numbers.clamp(-most, most))
