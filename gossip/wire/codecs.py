"""What goes on the wire for a model: the learned slots of the parameter vector, as one or more tensors."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import torch

from gossip.errors import ProtocolMisuse
from gossip.protocols.base import Part
from gossip.wire.settings import Float32Settings
from gossip.wire.tensors import PartSpecs, TensorSpec, WireTensor, from_torch, to_torch


class Codec(abc.ABC):
    """Turns a model's learned vector [L] into tensors and back. Both sides know L, so both know the tensors' specs."""

    name: ClassVar[str]
    instant: ClassVar[bool] = False
    """Whether encoding and decoding take no time worth a worker thread."""

    @abc.abstractmethod
    def specs(self, learned: int) -> tuple[TensorSpec, ...]:
        """Return what a model of `learned` parameters becomes; the receiver refuses everything else."""

    @abc.abstractmethod
    def encode(self, vector: torch.Tensor) -> tuple[WireTensor, ...]:
        """Return the tensors for `vector` (float32, shape [L])."""

    @abc.abstractmethod
    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Return the vector (float32, shape [L]); the tensors have the agreed specs. May raise `PeerError`."""


def part_specs(codec: Codec, learned: int) -> PartSpecs:
    """Return what tells the tensors of a part of a model of `learned` parameters; `ValueError` for no part of it."""

    def specs(part: Part) -> tuple[TensorSpec, ...]:
        start, stop = part.bounds(learned)
        return codec.specs(stop - start)

    return specs


class Float32(Codec):
    """The vector as it is, 4 bytes a parameter. Neither direction copies: the tensor is the vector's memory."""

    name = "float32"
    instant = True

    def __init__(self, settings: Float32Settings | None = None) -> None:
        self.settings = settings or Float32Settings()

    def specs(self, learned: int) -> tuple[TensorSpec, ...]:
        """Return one float32 tensor of shape [L]."""
        return (TensorSpec("float32", (learned,)),)

    def encode(self, vector: torch.Tensor) -> tuple[WireTensor, ...]:
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
