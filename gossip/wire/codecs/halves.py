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
from gossip.wire.tensors import TensorSpec, WireTensor, from_torch, to_torch


class BFloat16(Codec):
    """One bfloat16 tensor."""

    dtype: ClassVar[torch.dtype] = torch.bfloat16

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return one tensor (elements,)."""
        return (TensorSpec(str(self.dtype).removeprefix("torch."), (elements,)),)

    def encode(self, vector: torch.Tensor, draws: Draws | None = None) -> tuple[WireTensor, ...]:
        """Return the rounded vector."""
        return (from_torch(self._rounded(vector)),)

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Return the vector as float32, which holds all of these numbers."""
        (tensor,) = tensors
        return to_torch(tensor).to(torch.float32)

    def coded(self, vectors: torch.Tensor, draws: Sequence[Draws]) -> torch.Tensor:
        """Round all at once."""
        return self._rounded(vectors).to(torch.float32)

    def _rounded(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.to(self.dtype)


class Float16(BFloat16):
    """One float16 tensor."""

    dtype: ClassVar[torch.dtype] = torch.float16

    def _rounded(self, vectors: torch.Tensor) -> torch.Tensor:
        return to_float16(vectors)


def to_float16(vectors: torch.Tensor) -> torch.Tensor:
    """Return the nearest that float16 has; what is finite stays so."""
    most = torch.finfo(torch.float16).max
    clamped = vectors.clamp(-most, most)
    return torch.where(vectors.isinf(), vectors, clamped).to(torch.float16)
