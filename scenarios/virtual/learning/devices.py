"""Where all peers' models are computed, and how many at once."""

from __future__ import annotations

import torch

from gossip.errors import SettingError
from gossip.learning import user_code
from gossip.learning.devices import round_as_told

CHUNK_BYTES = 2 * 2**20
"""Size of a stack of models: its gradient, itself and its successor then stay in the cache."""
CHUNK_BYTES_ACCELERATOR = 256 * 2**20
"""The same where what counts is to have enough to do."""
CHUNK_PEERS_MAX = 512
CHUNK_PEERS_MAX_ACCELERATOR = 8192


def usable_device(device: torch.device | str) -> torch.device:
    """Return the device.

    Raises:
        SettingError: it is not there.
    """
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError) as failure:  # builds without CUDA assert that there is one
        raise SettingError(
            f"[virtual] device = '{device}' cannot be used: {user_code.one_line(failure)}"
        ) from failure
    round_as_told(usable)
    return usable


def chunk_peers(model_bytes: int, device: torch.device) -> int:
    """Return how many models make a stack."""
    if device.type == "cpu":
        return max(1, min(CHUNK_PEERS_MAX, CHUNK_BYTES // model_bytes))
    return max(1, min(CHUNK_PEERS_MAX_ACCELERATOR, CHUNK_BYTES_ACCELERATOR // model_bytes))
