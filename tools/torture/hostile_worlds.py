"""Worlds of `hostile.py`: honest runs, with a seat for an enemy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from malformed import MALFORMED


@dataclass(frozen=True)
class World:
    """An honest run: who is in it, and what it does."""

    name: str
    honest: int
    topology: str
    algorithm: str
    settings: tuple[str, ...] = ()
    rounds: int = 0
    """0: as the command line says."""
    seats: tuple[str, ...] = ("z",)
    pace_s: float = 0.0
    """0: as the command line says."""

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(self.honest)]


RING = World("ring", 3, "ring", "dfedsam-mgs", ("local.epochs=1",))
FULL = World("full", 4, "full", "dfedavg", ("local.epochs=1",))
_MEDIAN = "merge.kind=median"
RING_MEDIAN = World("ring, median", 3, "ring", "dfedsam-mgs", (*RING.settings, _MEDIAN))
FULL_MEDIAN = World("full, median", 4, "full", "dfedavg", (*FULL.settings, _MEDIAN))
"""Where an enemy sends models all the time: no average bears those, whatever round they are said to be of."""
FULL_LONG = replace(FULL_MEDIAN, name="full, median, longer", rounds=90)
"""Where an honest peer is held up in the middle: what that costs it is made good by the end."""
_MODEST = (
    "local.steps=5", "protocol.sample_size=3", "protocol.aggregators=2", "protocol.ping_timeout_s=1.0",
    "protocol.ping_again_s=0.3", "protocol.aggregate_timeout_s=3.0", "protocol.send_again_s=4.0",
    "protocol.stall_s=8.0", "protocol.refresh_s=5.0",
)  # fmt: skip
MODEST = World("modest", 5, "full", "modest", _MODEST, rounds=150, pace_s=0.1)
"""Long enough that a member whose updates are none only costs time: at the end it shows in no accuracy."""
_PUSH = ("local.epochs=1", "protocol.period_s=0.3", "protocol.fanout=0")
PUSH = World("push, average", 5, "full", "gossip-learning", _PUSH)
PUSH_MEDIAN = World(
    "push, median", 5, "full", "gossip-learning", (*_PUSH, "merge.kind=median", "merge.f=1"), rounds=120,
)  # fmt: skip
PUSH_MEMORY = World(
    "push, one model at a time", 5, "full", "gossip-learning",
    ("local.epochs=1", "protocol.period_s=0.3", "protocol.memory=10", "merge.kind=nnm+trimmed-mean", "merge.f=1"),
    rounds=200,  # merges look back: what a liar costs at first is made up for later
)  # fmt: skip
MANY_KEYS = World("many keys", 3, "ring", "dfedsam-mgs", ("local.epochs=1",),
                  seats=tuple(f"y{number:02d}" for number in range(len(MALFORMED))))  # fmt: skip
