"""What a rule has made and said: in whose memory it lies, and whether it is what rules may make and say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from gossip import plugins
from gossip.merging.base import Merge, Verdict
from gossip.merging.sanitise import Refusal

JUDGED_MAX = 100_000
"""Judgements that wait to be fetched; nobody may want them."""


class RecordedVerdict(NamedTuple):
    """What became of one received model: refused before the rule, or what the rule made of it."""

    round: int
    verdict: Refusal | Verdict


def shares_memory(one: Tensor, other: Tensor) -> bool:
    """Return whether one may lie where the other does."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def check_verdict(verdict: object) -> None:
    """Raise `Wrong` unless a rule judges by a `Verdict` whose parts are what records can hold."""
    if not isinstance(verdict, Verdict):
        raise plugins.Wrong(
            f"calls context.judge with {_said(verdict)}; it takes a gossip.merging.base.Verdict"
        )
    for name, kind in (("sender", str), ("weight", (int, float)), ("reason", str)):
        if not isinstance(getattr(verdict, name), kind):
            raise plugins.Wrong(
                f"calls context.judge with a Verdict whose {name} is {_said(getattr(verdict, name))}; it must be "
                + ("a number" if name == "weight" else "text")
            )


def _said(value: object) -> str:
    return f"{str(value)[:40]!r} of type {type(value).__name__}"


def blame(merge: Merge, merged: Tensor, models: Sequence[Tensor], *, round: int) -> str | None:
    """Return a clause where a rule that is not ours made numbers that are not finite of `models` that are.

    Those that lie where `merged` does are not looked at: they were spent, and are written over.
    """
    if plugins.is_ours(merge) or bool(merged.isfinite().all()):
        return None
    if not all(bool(each.isfinite().all()) for each in models if not shares_memory(each, merged)):
        return None
    return (
        f"[merge] {type(merge).__name__}, which returned numbers that are not finite in round {round}, for models that "
        "are"
    )
