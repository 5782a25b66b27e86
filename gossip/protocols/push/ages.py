"""How much models of different ages weigh in a merge.

A model's age is the number of local updates on the longest way that led to it. The age-weighted merge of gossip
learning (Hegedűs, Danner and Jelasity, JPDC 2021) is, for one received model,

    λ = a_r / (a_o + a_r),     w ← (1 - λ) w_o + λ w_r,     a ← max(a_o, a_r)

and here, for any number of them, each model's share of all ages. A model of age 0 was never trained: it changes no
trained one. The limited merge (Danner et al. 2023) goes to the ends where ages differ by more than a limit L: λ = 0
where the received model is that far behind. Where it is that far ahead, λ = 1 is the protocol's to decide.

An age is what a stranger says. Whoever could raise others' ages at will would have his models weigh most, and would
have honest ones left out as far behind. So an age is believed only as far as another sender vouches for it, and one
update beyond (`believed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

AGE_MAX = 2**40
"""An update in every millisecond for 34 years: no model is as old. Whoever says more is refused, and no age rises above
it: whatever a liar says, others' ages can equal it, and travel. The wire ends at 2^53."""


class Weights(NamedTuple):
    """A row of weights that sums to one."""

    own: float
    received: list[float]
    """In the order of the ages; 0 where a model is left out."""
    age: int
    """Of the merged model."""


def believed(own_age: int, ages: Sequence[int], *, witnesses: int) -> list[int]:
    """Return the ages as far as they are believed.

    What `witnesses` senders claim together, or the own age, is; who claims more counts as one update older than that.
    So `witnesses` - 1 liars raise an age by one in a merge, which honest neighbours follow, and not by as much as they
    like.
    """
    claims = sorted(ages, reverse=True)
    vouched_for = claims[witnesses - 1] if len(claims) >= witnesses else 0
    most = max(own_age, vouched_for) + (witnesses > 1)
    return [min(age, most) for age in ages]


def merge_weights(
    own_age: int,
    ages: Sequence[int],
    *,
    by_age: bool,
    self_weight: float | None = None,
    limit: int,
    factors: Sequence[float] = (),
) -> Weights | None:
    """Return the weights of a merge, or None where no received model is to be used.

    Args:
        own_age: a_o, not negative.
        ages: of the received models, not negative.
        by_age: in proportion to ages, or all the same.
        self_weight: β of the own model; None: a share like every other's.
        limit: L, in updates; models further behind are left out.
        factors: what the received models' shares are multiplied by besides; default: nothing.
    """
    usable = [age if own_age - age <= limit else 0 for age in ages]
    shares = [float(age) if by_age else float(age > 0) for age in usable]
    if factors:
        shares = [share * factor for share, factor in zip(shares, factors, strict=True)]
    total = sum(shares)
    if not total:
        return None
    if own_age == 0:
        own = 0.0
    elif self_weight is not None:
        own = self_weight
    else:
        own_share = float(own_age) if by_age else 1.0
        own = own_share / (own_share + total)
    return Weights(own, [(1 - own) * share / total for share in shares], max(own_age, *usable))
