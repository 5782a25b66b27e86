"""Outer steps: before a local update, a step on what the last one and all that was merged since have made of the model.

With φ where the last local update began, y what mixing has made of it and g = φ - y, which is all that was learned and
mixed since, with rate α and momentum μ:

    heavy-ball    m ← μ m + α g ;  φ ← φ - m                  NoLoCo (arXiv 2506.10911), with its γ = α
    nesterov      m ← μ m + g ;    φ ← φ - α (g + μ m)        DiLoCo (Douillard et al., arXiv 2311.08105)
    lerp                           φ ← φ - α g

and the update begins from φ. NoLoCo's m ← μ m + α·mean(δ) + γ (mean(φ) - φ_i), δ = θ - φ with θ the trained model, is
that of this side with γ = α: then α·mean(θ) - α φ_i is left, so that the one vector which travels anyway is enough. The
model that is shown, sent, merged and stored is y.

No step is taken (φ = y, m = 0) before there was an update, after a round without one of the own, and where g is more
than ten times as long as what the own last update has done: a takeover or an attack is no displacement.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gossip.learning.outer_settings import OuterSettings
from gossip.learning.updates.base import LocalUpdate, UpdateContext
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, Stage, State

PREFIX = "outer."
"""Before the names of what is remembered here, beside what the local update does."""

DISPLACEMENT_MAX = 10.0
"""‖g‖ over the length of the own last update, beyond which the model came from elsewhere."""


class OuterSteps(Stage):
    """Stacks of peers' outer steps.

    Args:
        settings: `[outer]`, whose kind is not none.
    """

    def __init__(self, settings: OuterSettings) -> None:
        self.settings = settings

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return φ, m where there is momentum, and of the last update: its round + 1, and how far it went."""
        size = space.trained_size
        momentum = {"momentum": Rows(size)} if self.settings.mu else {}
        return {"start": Rows(size), **momentum, "previous": Rows(1), "moved": Rows(1)}

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> tuple[Tensor, State]:
        """Return where local updates begin (n, T), of `models` (n, T) as mixing left them, and what is remembered."""
        alpha, mu = self.settings.alpha, self.settings.mu
        start = state["start"]
        g = start - models
        length = torch.linalg.vector_norm(g, dim=1, keepdim=True)  # (n, 1)
        in_turn = (state["previous"] > 0) & (context.round == state["previous"])
        taken = in_turn & (length <= DISPLACEMENT_MAX * state["moved"])  # false for NaN
        if self.settings.kind == "nesterov":
            momentum = mu * state["momentum"] + g if mu else g
            ahead = start - alpha * (g + mu * momentum)
        else:
            momentum = mu * state["momentum"] + alpha * g if mu else alpha * g
            ahead = start - momentum
        begun = torch.where(taken, ahead, models)
        kept = {"momentum": torch.where(taken, momentum, 0.0)} if mu else {}
        return begun, {**state, **kept, "start": begun}

    def end(self, models: Tensor, state: State, context: UpdateContext, steps: Tensor) -> State:
        """Return what is remembered of updates that left `models` (n, T) after so many `steps` (n, 1)."""
        moved = torch.linalg.vector_norm(state["start"] - models, dim=1, keepdim=True)
        # Without a step there is no length to measure the next displacement by.
        previous = torch.where(steps > 0, context.round + 1, 0.0)
        return {**state, "previous": previous, "moved": moved}


class Remembered(Stage):
    """What a peer remembers of its local updates and of outer steps, as one stage."""

    def __init__(self, update: LocalUpdate, outer: OuterSteps | None) -> None:
        self._update = update
        self._outer = outer

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return both."""
        outer = {} if self._outer is None else self._outer.rows(space)
        return {**self._update.rows(space), **{PREFIX + name: row for name, row in outer.items()}}


def apart(rows: State) -> tuple[State, State]:
    """Return what the update remembers, and what outer steps do."""
    update = {name: row for name, row in rows.items() if not name.startswith(PREFIX)}
    outer = {name.removeprefix(PREFIX): row for name, row in rows.items() if name.startswith(PREFIX)}
    return update, outer


def together(update: State, outer: State) -> State:
    """Return the rows of both."""
    return {**update, **{PREFIX + name: row for name, row in outer.items()}}
