"""Models as safetensors files: the finished one by its slots' names, a snapshot as one vector."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import torch

from gossip.storage.layout import Entry, pieces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gossip.parameters import ParameterSpace, Slot
    from gossip.storage.atomic import Piece


MODEL = "model.safetensors"
"""The finished model in a home."""

BEST = "best.safetensors"
"""The model of the best own score, where it is kept."""

PROTOTYPES = "prototypes.safetensors"
"""The layer of the nearest prototype, beside the model where `[channel]` has prototypes."""


def model_pieces(
    space: ParameterSpace,
    vector: torch.Tensor,
    *,
    peer: str,
    frozen: Mapping[str, torch.Tensor],
    about: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Iterator[Piece]:
    """Yield a file that `safetensors.torch.load_file` turns into the model's state dict.

    `frozen` are the tensors that are not in the vector (`Task.frozen`). The metadata hold the layout: slot names with
    shape, dtype and role, in the vector's order, and what `about` says. Nothing is copied but slots that are not
    float32, one at a time. Frozen tensors that are called as one of `without` are left out.
    """
    tensors: dict[str, Entry] = {}
    for slot in space.slots:
        if not slot.persistent or slot.name in without:
            continue  # the module makes it itself, and its state dict has no place for it; or it lies in another file
        constant = frozen.get(slot.name)
        entry = (
            _entry(slot.dtype, slot.shape, partial(_slot_memory, vector, slot))
            if constant is None
            else _entry(constant.dtype, tuple(constant.shape), partial(_memory, constant))
        )
        tensors |= dict.fromkeys((slot.name, *slot.aliases), entry)
    said = {"peer": peer, "space_id": space.space_id, "layout": json.dumps(space.layout()), **(about or {})}
    return pieces(tensors, said)


def snapshot_pieces(vector: torch.Tensor) -> Iterator[Piece]:
    """Yield a file with the one tensor "vector" of shape (parameters,)."""
    return pieces({"vector": _entry(vector.dtype, tuple(vector.shape), partial(_memory, vector))}, {})


def encode_model(
    space: ParameterSpace,
    vector: torch.Tensor,
    *,
    peer: str,
    frozen: Mapping[str, torch.Tensor],
    about: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> bytes:
    """Return the file of `model_pieces` as one."""
    return b"".join(model_pieces(space, vector, peer=peer, frozen=frozen, about=about, without=without))


def encode_snapshot(vector: torch.Tensor) -> bytes:
    """Return the file of `snapshot_pieces` as one."""
    return b"".join(snapshot_pieces(vector))


def _entry(dtype: torch.dtype, shape: tuple[int, ...], memory: partial[memoryview]) -> Entry:
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    return Entry(str(dtype).removeprefix("torch."), shape, nbytes, memory)


def _slot_memory(vector: torch.Tensor, slot: Slot) -> memoryview:
    return _memory(vector[slot.offset : slot.end].to(slot.dtype))


def _memory(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if len(flat) else memoryview(b"")
