"""HOW own and received models become one. A lazy front: see `gossip`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossip.merging.average import Average as Average
    from gossip.merging.base import Merge as Merge
    from gossip.merging.base import MergeContext as MergeContext
    from gossip.merging.base import Verdict as Verdict
    from gossip.merging.bristle.rule import Bristle as Bristle
    from gossip.merging.variance_corrected import VarianceCorrected as VarianceCorrected

_HOMES = {
    "Average": "gossip.merging.average",
    "Bristle": "gossip.merging.bristle.rule",
    "Merge": "gossip.merging.base",
    "MergeContext": "gossip.merging.base",
    "VarianceCorrected": "gossip.merging.variance_corrected",
    "Verdict": "gossip.merging.base",
}

__all__ = ["Average", "Bristle", "Merge", "MergeContext", "VarianceCorrected", "Verdict"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
