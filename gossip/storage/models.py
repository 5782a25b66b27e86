"""Models as safetensors files: the finished one by its slots' names, a snapshot as one vector."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import safetensors.torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from gossip.parameters import ParameterSpace


def encode_model(
    space: ParameterSpace, vector: torch.Tensor, *, peer: str, frozen: Mapping[str, torch.Tensor]
) -> bytes:
    """Return a file that `safetensors.torch.load_file` turns into the model's state dict.

    `frozen` are the tensors that are not in the vector (`Task.frozen`). The metadata hold the layout: slot names with
    shape, dtype and role, in the vector's order.
    """
    tensors = {name: tensor.contiguous().clone() for name, tensor in space.unflatten(vector).items()}
    tensors |= {name: tensor.cpu().contiguous() for name, tensor in frozen.items()}
    about = {"peer": peer, "space_id": space.space_id, "layout": json.dumps(space.layout())}
    return safetensors.torch.save(tensors, metadata=about)


def encode_snapshot(vector: torch.Tensor) -> bytes:
    """Return a file with the one tensor "vector" of shape (parameters,)."""
    return safetensors.torch.save({"vector": vector.contiguous()})
