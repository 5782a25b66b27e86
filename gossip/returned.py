"""What others' stages return is what their base classes say, each time: shapes and types, never a pass over numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gossip.plugins import Wrong
from gossip.stages import State


def check_tensor(found: Any, shape: tuple[int, ...], what: str) -> None:
    """Raise `Wrong` unless `found` is float32 of `shape`, and nothing leads back from it to a gradient."""
    if not isinstance(found, Tensor) or found.shape != shape or found.dtype is not torch.float32:
        told = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise Wrong(f"{what} {told}; it must be float32 of shape {shape}")
    if found.requires_grad:
        raise Wrong(f"{what} what requires a gradient; valid: the same detached, as by .detach()")


def check_state(found: Any, declared: State, what: str) -> None:
    """Raise `Wrong` unless `found` has the rows of `declared`, each of the same shape."""
    if not isinstance(found, Mapping) or found.keys() != declared.keys():
        told = sorted(found) if isinstance(found, Mapping) else type(found).__name__
        raise Wrong(f"{what} returns the rows {told}; `rows` says {sorted(declared)}")
    for name, row in declared.items():
        check_tensor(found[name], tuple(row.shape), f"{what} returns as row '{name}'")


def pair(found: Any, what: str) -> tuple[Any, Any]:
    """Return models and state, or raise `Wrong` where `found` is no such pair."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        told = f"{len(found)} values" if isinstance(found, (tuple, list)) else type(found).__name__
        raise Wrong(f"{what} returns {told}; it must be models and state")
    return found[0], found[1]
