"""What a peer that is far behind begins anew from: a late joiner, or one that was cut off, or stopped.

An age is what a stranger says, and `witnesses` - 1 = w - 1 neighbours of a peer may lie. Were one of the models far
ahead chosen by its age, a liar that says an age between those of two honest neighbours would have its own chosen. So
none is chosen: the peer waits for 2 w - 1 models far ahead, of which fewer than half are of liars then, and begins from
what the run's own rule makes of all of them, its own model not counted. Its age is the w-th largest of theirs, which no
w - 1 liars raise above that of the oldest honest model. What comes before there are enough is merged as ever, and goes
on counting as long as it is far ahead (`inbox.py`).

A rule that bears no liar, such as the average, bears none here; but no liar has more than its share of it.

Those count who may ever be neighbours, not those who can be reached now: whom a liar reaches first would believe it,
and vouch for it to all others. Where the graph gives exactly 2 w - 2 contacts, as a ring does with w = 2, it takes all
of them, and the own model is the last of the 2 w - 1, with its share as in every merge.

A peer with fewer contacts, or of whose contacts fewer are alive, begins from nothing and follows by its merges:

* A merge that sees w models far ahead, or those of all contacts where these are fewer than w, believes the least of
  these w ages (`ages.py`). Where models weigh by age, the own one then weighs next to nothing, so that one merge does;
  weighed all the same, it has its share, and is forgotten in a few merges.
* A merge that sees fewer makes the own model one update older. The model follows, by a half at a time where models
  weigh by age; by the ages a peer catches up one update in a period, and as long as it is far behind its own models are
  left out by those ahead: after a gap of 1000 updates its samples are not heard for some 1000 periods.
* A single contact is believed, and a peer with fewer than w contacts is lost if all of them lie. It has nobody else to
  mislead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gossip.protocols.base import PeerId
from gossip.protocols.push.ages import merge_weights
from gossip.protocols.push.inbox import ReceivedModel
from gossip.protocols.push.settings import PushSettings


class Beginning(NamedTuple):
    """What to begin from; weights sum to one."""

    models: list[ReceivedModel]
    """Ascending by age."""
    own_weight: float
    weights: list[float]
    """Of the models."""
    age: int
    sender: PeerId
    """Who says that age."""


def find_beginning(
    ahead: Sequence[ReceivedModel], settings: PushSettings, *, own_age: int, contacts: int
) -> Beginning | None:
    """Return what to begin from, or None as long as too few are far ahead.

    Args:
        ahead: models far ahead, one of each sender, ascending by age.
        settings: how many are enough, and how models weigh.
        own_age: a model that was never trained counts as none.
        contacts: how many the graph gives.
    """
    enough = settings.models_to_begin_from
    with_own = 0 < contacts == enough - 1 and own_age > 0
    if len(ahead) < enough - with_own:
        return None
    vouched_for = ahead[-settings.witnesses]
    weights = merge_weights(
        own_age if with_own else 0,
        [min(each.age, vouched_for.age) for each in ahead],
        by_age=with_own and settings.weighting == "age",
        self_weight=settings.self_weight,
        limit=settings.age_limit,
    )
    assert weights is not None, "what is far ahead was trained"
    return Beginning(list(ahead), weights.own, weights.received, vouched_for.age, vouched_for.sender)


def limit_updates(settings: PushSettings, *, degree: int) -> int:
    """Return L in updates: so many does a model's age rise by in L periods at most, as a rule.

    What is merged after an update goes out after the next one: ages rise by one a period. Where it goes out at once,
    whoever hears it may push it on in the same period, one older.
    """
    if settings.merge_when == "wake-up" and settings.order == "update-then-merge":
        return settings.age_limit
    return settings.age_limit * (1 + min(settings.fanout or degree, degree))
