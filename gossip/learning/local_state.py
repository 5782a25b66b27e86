"""What a step of a local update is given, and what it leaves."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gossip.stages import State


class LocalState(NamedTuple):
    """What one step changes. A tuple, so that `vmap` stacks it over peers; a stack has a leading axis n."""

    trained: Tensor  # (T,) learned and private slots
    rest: Tensor  # (P - T,) statistics, counters
    rows: State
    """What the update remembers, each (1, length); (n, length) of a stack."""


class StepResult(NamedTuple):
    """The state after a step, the mini-batch's loss, and whether the step was applied."""

    state: LocalState
    loss: Tensor  # () or (n,) mean over the mini-batch at y; may be NaN where skipped
    applied: Tensor  # () or (n,) bool
