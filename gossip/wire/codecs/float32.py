"""float32: the vector as it is, little-endian, 4 bytes a number. Neither direction copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from gossip.draws import Draws
from gossip.errors import ProtocolMisuse
from gossip.wire.codecs.base import Codec
from gossip.wire.tensors import TensorSpec, WireTensor, from_torch, to_torch


class Float32(Codec):
    """The tensor is the vector's own memory."""

    name = "float32"
    exact: ClassVar[bool] = True
    instant: ClassVar[bool] = True

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return one float32 tensor (elements,)."""
        return (TensorSpec("float32", (elements,)),)

    def encode(self, vector: torch.Tensor, draws: Draws | None = None) -> tuple[WireTensor, ...]:
        """Return the vector's own memory."""
        if vector.dtype != torch.float32 or vector.dim() != 1:
            raise ProtocolMisuse(
                f"a model is a float32 vector, not {vector.dtype} of shape {tuple(vector.shape)}"
            )
        return (from_torch(vector),)

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Return a vector over the received memory."""
        (tensor,) = tensors
        return to_torch(tensor)


EXACTLY: Codec = Float32()
"""Codes whole messages, whatever the run's codec."""
