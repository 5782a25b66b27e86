"""What a rule has made: in whose memory it lies, and whether it is to blame for numbers that are not finite."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gossip import plugins
from gossip.merging.base import Merge


def shares_memory(one: Tensor, other: Tensor) -> bool:
    """Return whether one may lie where the other does."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def blame(merge: Merge, merged: Tensor, models: Sequence[Tensor], *, round: int) -> str | None:
    """Return a clause where a rule that is not ours made numbers that are not finite of `models` that are.

    Those that lie where `merged` does are not looked at: they were spent, and are written over.
    """
    if plugins.is_ours(merge) or bool(merged.isfinite().all()):
        return None
    if not all(bool(each.isfinite().all()) for each in models if not shares_memory(each, merged)):
        return None
    return (
        f"[merge] {type(merge).__name__}, which returned numbers that are not finite in round {round}, for models that "
        "are"
    )
