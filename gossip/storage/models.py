"""Models as safetensors files: the finished one by its slots' names, a snapshot as one vector."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import safetensors.torch

if TYPE_CHECKING:
    import torch

    from gossip.parameters import ParameterSpace


def encode_model(space: ParameterSpace, vector: torch.Tensor, *, peer: str) -> bytes:
    """Return a file that `safetensors.torch.load_file` turns into the model's state dict.

    The metadata hold the layout: slot names with shape, dtype and role, in the vector's order.
    """
    tensors = {name: tensor.contiguous().clone() for name, tensor in space.unflatten(vector).items()}
    about = {"peer": peer, "space_id": space.space_id, "layout": json.dumps(space.layout())}
    return safetensors.torch.save(tensors, metadata=about)


def encode_snapshot(vector: torch.Tensor) -> bytes:
    """Return a file with the one tensor "vector" of shape (parameters,)."""
    return safetensors.torch.save({"vector": vector.contiguous()})
