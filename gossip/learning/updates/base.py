"""The seam of local updates: what a peer does to its model between two exchanges, given gradients.

Whoever runs an update (`gossip.learning.local_training`) brings mini-batches, gradients, SAM's perturbation, clipping,
the learning rate and the refusal of steps that are not finite; the update says what a step makes of a gradient, and
what is carried over from one local update to the next. The model that `begin` is given *is* what merging made of the
one that `end` handed on, so no update needs to look into a merge.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

from torch import Tensor

from gossip.learning.settings import LocalSettings
from gossip.stages import Stage, State

GradientAt: TypeAlias = Callable[[Tensor], Tensor]
"""Trained slots (n, T) -> their gradients (n, T) on the step's mini-batch, with all that `[local]` wraps them in."""

ASKS_NOTHING = (
    "step never asks for the gradient, and nothing of the samples would be learnt; call gradient(models)"
)


class UpdateContext(NamedTuple):
    """When the local updates of a stack are."""

    round: Tensor  # (n, 1) float32
    lr: Tensor  # (n, 1) the learning rate η of all its steps


class LocalUpdate(Stage):
    """A local update: `begin`, then `step` for each mini-batch, then `end`.

    All three are pure functions of stacks: models are trained slots (n, T), `state` has a row per peer for every name
    in `rows`; arguments stay as they are. A step that is not finite is undone in model and state alike.

    Args:
        settings: of this update, `[local] optimizer`.
        local: all of `[local]`.
    """

    decays_weights: ClassVar[bool] = False
    """It applies `weight_decay` itself; else weight_decay · y is part of the gradient that it is given."""

    def __init__(self, settings: Any, local: LocalSettings) -> None:
        self.settings = settings
        self.local = local

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> State:
        """Return the state before the first step on `models` (n, T)."""
        return state

    @abc.abstractmethod
    def step(self, gradient: GradientAt, models: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """Return models and state after one step; `lr` (n, 1)."""

    def end(
        self, models: Tensor, state: State, context: UpdateContext, steps: Tensor
    ) -> tuple[Tensor, State]:
        """Return what is handed on (n, T), to be sent and merged, and what is remembered.

        `steps` (n, 1) float32 tells how many steps were done, those undone not counted.
        """
        return models, state
