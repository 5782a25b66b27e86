"""Row "classes" of `robustness.py`: how unequal the data of honest peers may be."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_cases import FLIP, NONE, Case, case
from robustness_claims import LOOSE, Claim, Rows, Table

DIVISIONS = {
    **{
        f"{k} of 10": f"data.partition={{kind='cyclic',classes_per_peer={k},samples_per_class=2,overlap=true}}"
        for k in (2, 3, 6)
    },
    **{
        f"D {alpha:g}": f"data.partition={{kind='dirichlet',alpha={alpha},samples_per_peer=20}}"
        for alpha in (0.1, 1.0)
    },
}
FLIPPED = ", flip"
FEW_HOLDERS = "2 of 10"
"""Two peers hold each class: too few for a median, and all that is foreign to a peer comes by one weight per sender.
That takes three times as many rounds."""


def row_classes() -> list[Case]:
    cases = []
    for what, division in DIVISIONS.items():
        more = [division]
        if what == FEW_HOLDERS:
            more += ["stop.rounds=600", "evaluate.every=600"]
        for rule in ("local", "average", "median", "nna", "bristle"):
            cases.append(case("classes", what, rule, NONE, more=more))
        for rule in ("nna", "bristle"):
            cases.append(case("classes", what + FLIPPED, rule, FLIP, attackers=15, more=more))
    return cases


def claims_classes(lines: Table) -> Iterator[Claim]:
    for what in DIVISIONS:
        bristle, average = (lines(what, rule).mean for rule in ("bristle", "average"))
        yield Claim(
            "classes",
            f"bristle, {what}: at most 3 points below the average ({average:.3f})",
            bristle,
            bristle >= average - LOOSE,
        )
        flipped = lines(what + FLIPPED, "bristle").mean
        yield Claim(
            "classes",
            f"bristle, {what}: loses at most 3 + 3 points to 15 flippers",
            bristle - flipped,
            bristle - flipped <= 0.03 + LOOSE,
        )


ROWS: Rows = {
    "classes": (lambda out: row_classes(), claims_classes),
}
