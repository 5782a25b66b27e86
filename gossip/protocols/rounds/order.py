"""In which order a round trains and mixes: what is sent, and when the own update joins.

    adapt-then-combine    x_i^{t+1} = Σ_j W_ij U_j(x_j^t)                         what was trained is sent and mixed
    combine-then-adapt    x_i^{t+1} = Σ_j W_ij x_j^t + (U_i(x_i^t) - x_i^t)       models are sent as they stand

U_i is the local update. Of one SGD step it is U(x) = x - γ∇F(x), and combine-then-adapt is Wx - γ∇F(x): D-PSGD as
published (Lian et al. 2017, arXiv 1705.09056, Algorithm 1), which takes the gradient at the own model and not at the
mixed one. Adapt-then-combine is W(x - γ∇F(x)). With Q gossip steps W is its Q-th power in both, and the update joins
once. The mean of all models moves alike in a round, for columns of W sum to one.

Models that are sent as they stand can be sent before the training: they travel, and are waited for, while it lasts. The
first gossip step costs no time then; further ones come after it, as ever.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

from gossip.protocols.base import Context, Model, Ticket


class OwnModel(abc.ABC):
    """One peer's model on its way through rounds."""

    __slots__ = ("model",)

    sends_first: ClassVar[bool]
    """Whether a round's first models are sent before they are trained."""

    def __init__(self, model: Model) -> None:
        self.model: Model | None = model
        """What is sent and mixed now; None while there is none, because it is being trained."""

    @abc.abstractmethod
    def train(self, ctx: Context, round: int) -> Ticket:
        """Begin the local update of a round."""

    @abc.abstractmethod
    def trained(self, model: Model) -> None:
        """Take what came of it."""

    @abc.abstractmethod
    def settle(self, ctx: Context) -> None:
        """Make the model contain the own update, at the end of its round or before it is given up."""


class AdaptThenCombine(OwnModel):
    """What was trained is mixed."""

    __slots__ = ()

    sends_first: ClassVar[bool] = False

    def train(self, ctx: Context, round: int) -> Ticket:
        """Begin; nobody is sent the model of before any more, so that it may be trained where it lies."""
        model, self.model = self.model, None
        return ctx.train(model, round=round)

    def trained(self, model: Model) -> None:
        """Mix this from now on."""
        self.model = model

    def settle(self, ctx: Context) -> None:
        """It does already."""


class CombineThenAdapt(OwnModel):
    """Models are mixed as they were before training; the difference that it made is added to what came of that."""

    __slots__ = ("_after", "_before")

    sends_first: ClassVar[bool] = True

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._before: Model | None = None
        self._after: Model | None = None

    def train(self, ctx: Context, round: int) -> Ticket:
        """Begin, and go on sending and mixing the model as it is."""
        self._before = self.model
        return ctx.train(self.model, round=round)

    def trained(self, model: Model) -> None:
        """Keep this for later."""
        self._after = model

    def settle(self, ctx: Context) -> None:
        """Add the update; a peer that was moved into the middle of a round has none."""
        before, after = self._before, self._after
        self._before = self._after = None
        if after is not None:
            # Where nothing was mixed, exactly what was trained.
            self.model = after if self.model is before else ctx.moved(self.model, before, after)


ORDERS: Mapping[str, type[OwnModel]] = {
    "adapt-then-combine": AdaptThenCombine,
    "combine-then-adapt": CombineThenAdapt,
}
"""By `[protocol] order`."""
