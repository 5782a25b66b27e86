"""A proximal term: steps are pulled back to the model that the local update began with.

FedProx (Li, Sahu, Zaheer et al., MLSys 2020, arXiv 1812.06127, Algorithm 2) has a client minimise, inexactly,

    h(y) = F(y) + (λ / 2) ‖y − x‖²        x where the local update began, λ the paper's μ

so that each step adds the term's gradient:

    y ← y − η (g + λ (y − x))

It bounds how far unequal data, or many more steps than others do, carry a peer away; and slows it down.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gossip.learning.updates.base import GradientAt, UpdateContext
from gossip.learning.updates.sgd import Sgd
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State


class FedProx(Sgd):
    """Plain or heavy-ball steps with a proximal term."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return x, for the time of one local update, and the velocity where there is momentum."""
        return {**super().rows(space), "start": Rows(space.trained_size, kept=False)}

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> State:
        """Note where it begins."""
        return {**state, "start": models.clone()}

    def step(self, gradient: GradientAt, models: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """Return models and velocity after one step."""
        return super().step(lambda y: gradient(y) + self.pull(y, state), models, state, lr)

    def pull(self, models: Tensor, state: State) -> Tensor:
        """Return what is added to the gradient at `models` (n, T): λ (y − x)."""
        pull: Tensor = self.settings.proximal * (models - state["start"])
        return pull
