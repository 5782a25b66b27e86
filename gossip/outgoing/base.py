"""The seam of outgoing models: between training and the codec, at the sender alone."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from gossip.draws import Draws
from gossip.plugins import Wrong
from gossip.privacy.entropy import Entropy
from gossip.returned import check_state, check_tensor, pair
from gossip.stages import Stage, State


class Outgoing(Stage):
    """Shapes what others get to see of a model; the peer's own stays as it is.

    Once per message, however many neighbours it goes to. Noise that is to protect somebody's data comes from the
    operating system, never from `draws`, which whoever knows the run's seed can derive.

    Args:
        settings: of `[outgoing]`.
    """

    nothing: ClassVar[bool] = False
    """It leaves models as they are, so that nobody need ask it."""
    to_each: ClassVar[bool] = False
    """Each neighbour is sent another model: `apart` is asked, and `send` for whoever is none."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @abc.abstractmethod
    def send(self, models: Tensor, state: State, draws: Sequence[Draws]) -> tuple[Tensor, State]:
        """Return what is sent for the learned slots `models` (n, L), and what is remembered; arguments stay."""

    def apart(self, length: int, weights: Sequence[float], entropy: Entropy) -> Tensor:
        """Return what is added (d, length) to one message's numbers, for each of d neighbours; see `to_each`.

        Args:
            length: how many numbers travel.
            weights: W_ji, by which neighbour j weighs what it gets, in the order of neighbours.
            entropy: of the sender, for this message.
        """
        raise NotImplementedError


class AsItIs(Outgoing):
    """The model itself."""

    nothing: ClassVar[bool] = True

    def send(self, models: Tensor, state: State, draws: Sequence[Draws]) -> tuple[Tensor, State]:
        """Return `models`."""
        return models, state


def sent_by(outgoing: Outgoing, models: Tensor, state: State, draws: Sequence[Draws]) -> tuple[Tensor, State]:
    """Return what `send` makes of `models` (n, L).

    Raises:
        Wrong: that is of other shapes or types.
    """
    sent, kept = pair(outgoing.send(models, state, draws), "send")
    check_tensor(sent, tuple(models.shape), "send returns as models")
    check_state(kept, state, "send")
    return sent, kept


def apart_by(outgoing: Outgoing, length: int, weights: Sequence[float], entropy: Entropy) -> Tensor:
    """Return what `apart` does (d, length).

    Raises:
        Wrong: that is of another shape or type.
    """
    if type(outgoing).apart is Outgoing.apart:
        raise Wrong("says to_each, and has no method `apart`, which makes what each neighbour is sent")
    apart = outgoing.apart(length, weights, entropy)
    check_tensor(apart, (len(weights), length), f"apart returns for {len(weights)} neighbours")
    return apart
