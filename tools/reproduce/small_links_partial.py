"""Rows of `small_links.py`: codecs that need something of the receiver, top-change and CHOCO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from link_runs import Row, Runs, Summary, accuracy, payload, shown

from gossip.errors import SettingError
from scenarios.scenario import load

AHEAD_MIN = 3.0
"""Points by which top-change is to be above parts."""
BEHIND_MAX = 0.3
"""Points by which CHOCO may be below float32."""
KILLED = {
    "virtual": (
        "faults.list=[{at = 200.0, do = 'crash', peers = [3]}, {at = 230.0, do = 'restart', peers = [3]}]",
        "compute.seconds_per_sample=0.05",
    ),
    "processes": (
        "faults.list=[{at = 10.0, do = 'crash', peers = [3]}, {at = 12.0, do = 'restart', peers = [3]}]",
    ),
}
"""Simulated rounds take eight seconds: the peer is gone for some of them."""


def top_change(runs: Runs) -> Row:
    """The largest changes are worth more than a part in turn.

    A quarter of the numbers takes 1.125 bytes a number, a part of four 1: a fifth, 0.925 bytes, is set beside it.
    """
    parts = runs.of("top-change", "codec.kind=float32", "protocol.parts=4")
    ours, quarter = runs.of("top-change", "codec.share=0.2"), runs.of("top-change")
    whole = runs.of("top-change", "codec.kind=float32")
    ahead = accuracy(ours) - accuracy(parts)
    told = [("a fifth", ours), ("a quarter", quarter), ("parts of four", parts), ("whole models", whole)]
    return Row(
        "top-change",
        f"{AHEAD_MIN:g} points above parts of four at no more bytes",
        f"{ahead:+.1f}: " + ", ".join(shown(*each) for each in told),
        ahead >= AHEAD_MIN and payload(ours) <= payload(parts),
    )


def top_change_median(runs: Runs) -> Row:
    """A median of rows that are mostly own mixes nothing."""
    try:
        load("top-change", values={"merge.kind": "median"})
        said, ok = "taken", False
    except SettingError as error:
        said, ok = str(error), "\n" not in str(error)
    return Row("top-change with a median", "refused in a sentence", said, ok)


def choco_int4(runs: Runs) -> Row:
    """Four bits of every change."""
    ours, whole = runs.of("choco-int4"), runs.of("choco-int4", "codec.kind=float32")
    values = runs.of("choco-int4", "codec.kind=int4")
    behind = accuracy(whole) - accuracy(ours)
    told = [("choco", ours), ("float32", whole), ("int4 of models", values)]
    return Row(
        "choco-int4",
        f"within {BEHIND_MAX:g} points of float32",
        f"{-behind:+.2f}: " + ", ".join(shown(*each) for each in told),
        behind <= BEHIND_MAX,
    )


def choco_killed(runs: Runs) -> Row:
    """A peer that is killed and comes back costs its links a whole model each, and nothing else."""
    faults = KILLED[runs.engine]
    ours = runs.of("choco-int4", *faults)
    whole = runs.of("choco-int4", "codec.kind=float32", *faults)
    behind = accuracy(whole) - accuracy(ours)

    def merged(told: Sequence[Summary]) -> float:
        return 100 * fmean(each["accuracy_of_mean"] for each in told)

    return Row(
        "choco-int4, a peer killed and back",
        f"within {BEHIND_MAX:g} points of float32 with the same kill, the average's too",
        f"{-behind:+.2f}: {shown('choco', ours)}, {shown('float32', whole)}; the average {merged(ours):.1f} and "
        f"{merged(whole):.1f} %",
        behind <= BEHIND_MAX and merged(ours) >= merged(whole) - BEHIND_MAX,
    )


def choco_gamma(runs: Runs) -> Row:
    """What diverges."""
    try:
        load("choco-int4", values={"codec.compress": "top", "codec.gamma": 1.0})
        said, ok = "taken", False
    except SettingError as error:
        said, ok = str(error), "\n" not in str(error)
    return Row("choco, top with gamma = 1", "refused in a sentence", said, ok)


ROWS: Sequence[Callable[[Runs], Row]] = (top_change, top_change_median, choco_int4, choco_killed, choco_gamma)
