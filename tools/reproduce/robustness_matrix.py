"""Row "matrix" of `robustness.py`: every rule against every attack."""

from __future__ import annotations

from robustness_cases import ALL_KINDS, Case, case
from robustness_claims import Rows, no_claims

MATRIX_RULES = (
    "average",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "geometric-median",
    "nnm+trimmed-mean",
    "nna",
    "cs-plus",
    "mda",
    "smea",
    "caf",
    "ios",
    "balance",
    "ubar",
    "bristle",
)


def row_matrix() -> list[Case]:
    return [
        case("matrix", what, rule, attack, attackers=3)
        for what, attack in ALL_KINDS.items()
        for rule in MATRIX_RULES
    ]


ROWS: Rows = {
    "matrix": (lambda out: row_matrix(), no_claims),
}
