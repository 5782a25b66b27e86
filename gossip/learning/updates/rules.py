"""With what of `[local]` each optimizer goes together. Free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossip.learning.settings import LocalSettings

OF_GRADIENTS = (("momentum", 0), ("sam_rho", 0), ("clip_norm", None), ("micro_batch", None))
"""Keys that act on gradients, and what says nothing."""


def complaint(local: LocalSettings) -> str | None:
    """Return what is wrong, as a sentence; None where nothing is."""
    kind = local.optimizer.kind
    if kind == "adamw" and (local.momentum or local.keep_momentum):
        return "momentum is not adamw's: it has beta1, and keep_moments"
    if kind == "fedspeed" and local.normalise is not None:
        return "normalise scales what was learnt; optimizer.kind = 'fedspeed' hands on something else; leave it out"
    if kind == "fedspeed" and local.consolidate == "familiar":
        return (
            "optimizer.kind = 'fedspeed' hands on all that its dual says, and consolidate = 'familiar' only some "
            "columns; valid: consolidate = 'all'"
        )
    if kind == "quasi-global" and not local.momentum:
        return "optimizer.kind = 'quasi-global' needs momentum; 0.9 is usual"
    if kind == "quasi-global" and local.keep_momentum:
        return "keep_momentum is not for optimizer.kind = 'quasi-global', whose momentum is the network's"
    for key, nothing in OF_GRADIENTS if kind == "spsa" else ():
        value = getattr(local, key)
        if value != nothing:
            return f"{key} = {value} acts on gradients, and optimizer.kind = 'spsa' has none; leave it out"
    return None
