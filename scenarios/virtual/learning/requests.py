"""What peers ask their learning for, and in which order it can be computed: a graph, level by level."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from gossip.draws import Draws
from gossip.protocols.base import Contribution, GossipStep, Part
from scenarios.virtual.learning.arena import Handle


class To(NamedTuple):
    """Of whom a model is for, among those that it goes to."""

    place: int
    weights: tuple[float, ...]
    """By which they weigh it."""


class Train(NamedTuple):
    """A local update of `own`, the peer's `number`th."""

    own: Handle
    round: int
    number: int
    steps: int | None = None
    """So many, and not what `[local]` says."""


class Merge(NamedTuple):
    """The merge of `own` with what was received."""

    own: Handle
    own_weight: float
    received: Sequence[Contribution]
    at: GossipStep


class Adopt(NamedTuple):
    """The first of `received` that may be merged, with own slots that never travel."""

    own: Handle
    received: Sequence[Contribution]


class Agree(NamedTuple):
    """What most of `received` agree on, with own slots that never travel."""

    own: Handle
    received: Sequence[Contribution]


class Graft(NamedTuple):
    """`own` with one part of `source`."""

    own: Handle
    source: Handle
    part: Part


class Shape(NamedTuple):
    """What `own` is before it is coded."""

    own: Handle
    draws: Draws
    to: To | None = None
    """For whom, where each neighbour is sent another."""


class Send(NamedTuple):
    """What receivers will hold of `own`, of which `part` travels."""

    own: Handle
    draws: Draws
    part: Part
    number: int = 0
    """Which of the sender's models it is."""
    whole: bool = False
    """Receivers get all of it, though the codec has them fill in what they hold."""


class Move(NamedTuple):
    """`own` with the difference that an update has made of `before`, which is `after` now."""

    own: Handle
    before: Handle
    after: Handle
    rate: float = 1.0
    """How much of the difference is added."""


class Craft(NamedTuple):
    """What an attacker makes of other models."""

    own: Handle
    inputs: Sequence[Handle]
    function: Callable[[Tensor], Tensor]


Request: TypeAlias = Train | Merge | Adopt | Agree | Graft | Move | Shape | Send | Craft

Level: TypeAlias = dict[type, list[Handle]]
"""Requests of one depth, by their type."""


def levels(pending: Sequence[Handle], *, ordered: Container[type]) -> list[Level]:
    """Sort requests by depth. They were noted after those they need, so one pass will do.

    Args:
        pending: handles whose models are wanted.
        ordered: a peer's requests of these types must be computed in the order in which they were asked for.
    """
    found: list[Level] = []
    last: dict[tuple[type, int], int] = {}
    for handle in pending:
        request = handle.request
        depth = request.own.level
        kind = type(request)
        if kind is Merge or kind is Adopt or kind is Agree:
            for contribution in request.received:
                if contribution.model.level > depth:
                    depth = contribution.model.level
        elif kind is Graft:
            depth = max(depth, request.source.level)
        elif kind is Move:
            depth = max(depth, request.before.level, request.after.level)
        elif kind is Craft:
            depth = max([depth, *(each.level for each in request.inputs)])
        if kind in ordered:
            depth = max(depth, last.get((kind, handle.peer), 0))
            last[kind, handle.peer] = depth + 1
        if depth == len(found):
            found.append({})
        found[depth].setdefault(kind, []).append(handle)
        handle.level = depth + 1
    return found
