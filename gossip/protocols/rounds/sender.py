"""What a peer of `rounds` knows of those who send to it."""

from __future__ import annotations

from typing import TypeAlias

from gossip.protocols.base import Model, Part, PeerId
from gossip.protocols.rounds.deadlines import ArrivalDeadline
from gossip.protocols.rounds.parts import Parts

Tag: TypeAlias = tuple[int, int]
"""(round, gossip step); compares in the order in which a peer passes through them."""

NOTHING: Tag = (-1, 0)
"""Before every tag."""

NO_MODELS: dict[Tag, Model] = {}
"""Shared and never written to."""

NONE_LATE: dict[int, tuple[Tag, Model]] = {}
"""The same."""


class Sender:
    """What is known of one peer that may send to this one. One object, because every message touches all of it."""

    __slots__ = (
        "after_training",
        "awaited",
        "between_steps",
        "finished",
        "kept",
        "late",
        "missing",
        "newest",
        "peer",
        "served",
        "stood_in",
        "suspect",
        "unheard",
        "weight",
        "whole",
    )

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.weight = 0.0
        """Its entry in the present row of W."""
        self.missing = False
        """The present step waits for it."""
        self.unheard = False
        """Some step of this round went without it."""
        self.awaited: Model | None = None
        """Its model of this step, where it came while it was waited for."""
        self.kept: dict[Tag, Model] = NO_MODELS
        """Its other models of this step and later ones; most peers in step never send one."""
        self.stood_in = False
        """The newest of these has been merged in place of another one; it is not, again, until it is sent again."""
        self.whole: Tag = NOTHING
        """Of what is kept in a run whose models travel in parts: the one that came whole."""
        self.late: dict[int, tuple[Tag, Model]] = NONE_LATE
        """Its newest models that came after their step had ended, by the place of their part, until its next merge."""
        self.newest: Tag = NOTHING
        self.served: Tag = NOTHING
        """The newest of our models that it was sent since it came up."""
        self.suspect = False
        """It missed a deadline, or went away while it was waited for, and has delivered nothing since."""
        self.finished = False
        # Waiting for step 0 is waiting for a neighbour's training; later steps wait for the network alone.
        self.after_training: ArrivalDeadline | None = None
        self.between_steps: ArrivalDeadline | None = None

    def keep(self, tag: Tag, model: Model, *, whole: bool) -> None:
        """Keep one of its models."""
        if self.kept is NO_MODELS:
            self.kept = {}
        self.kept[tag] = model
        self.stood_in = False
        if whole:
            self.whole = tag
        elif self.whole == tag:
            self.whole = NOTHING

    def keep_late(self, tag: Tag, model: Model, place: int) -> None:
        """Keep a model that came after its step."""
        if self.late is NONE_LATE:
            self.late = {}
        self.late[place] = (tag, model)

    def observe(self, tag: Tag, delay_s: float) -> None:
        """Note how long a model came after the wait for it began."""
        arrivals = self.between_steps if tag[1] else self.after_training
        (self.arrivals(tag) if arrivals is None else arrivals).observe(delay_s)

    def arrivals(self, tag: Tag) -> ArrivalDeadline:
        """Return when its models came in waits of this kind."""
        if tag[1]:
            if self.between_steps is None:
                self.between_steps = ArrivalDeadline()
            return self.between_steps
        if self.after_training is None:
            self.after_training = ArrivalDeadline()
        return self.after_training

    def stand_in(self, round: int, part: Part, parts: Parts, *, last: int, far: int) -> Model | None:
        """Return a model for a step of `round` of which it sends none, or too late; None: there is none.

        Who is `far` ahead, or has done the `last` round, has its newest one; who is less than that behind, one that
        came after its step. It must be the part whose turn it is.
        """
        if self.kept:
            newest = max(self.kept)
            if self.stood_in or not (newest[0] - round >= far or newest[0] == last):
                return None
            if self.whole != newest and parts.part(*newest) != part:
                return None
            # Once for each time that it is sent: else one message would be merged in every step until its round.
            self.stood_in = True
            return self.kept[newest]
        if self.late:
            tag, model = self.late.get(part.place, (NOTHING, None))
            if tag is not NOTHING and parts.part(*tag) == part and round - tag[0] < far + parts.turn_rounds:
                return model
        return None
