"""Batch normalisation. Averaging running statistics of different peers is wrong: they belong to weights that no
longer exist. They never leave the peer, and `[model] batch_norm` says what happens to them:

* ``local``: kept as they are; the next local update moves them on.
* ``reestimate``: before an evaluation they are measured anew for the merged weights, by one pass over own
  training samples (`Learner.evaluate`).
* ``refuse``: a network with running statistics is a `SettingError`. GroupNorm has none.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gossip.learning.adapters import HeldNorm
from gossip.learning.extractor import Extracted
from gossip.parameters import ParameterSpace, Role


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers by name, without those of an extractor or beside adapters, which are frozen."""
    frozen = "extractor." if isinstance(module, Extracted) else None
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm)
        and not issubclass(type(layer), HeldNorm)
        and not (frozen and name.startswith(frozen))
    }


def running(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers that keep running statistics, by name."""
    return {name: layer for name, layer in batch_norms(module).items() if layer.running_mean is not None}


def with_statistics_reset(vector: Tensor, space: ParameterSpace, layers: dict[str, _BatchNorm]) -> Tensor:
    """Return the vector [P] with the running statistics of `layers` as they are before any sample."""
    reset = vector.clone()
    for slot in space.slots_of(Role.STATISTIC, Role.COUNTER):
        owner, _, name = slot.name.rpartition(".")
        if owner in layers:
            reset[slot.offset : slot.end] = 1.0 if name == "running_var" else 0.0
    return reset
