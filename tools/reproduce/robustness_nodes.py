"""Row "nodes" of `robustness.py`: real processes over TLS."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_cases import NONE, Case
from robustness_claims import Claim, Rows, Table


def row_nodes() -> list[Case]:
    return [
        Case("nodes", what, "multi-krum", tuple(settings), "attacked-nodes", "processes")
        for what, settings in (("no attack", NONE), ("4 attackers", ()))
    ]


def claims_nodes(lines: Table) -> Iterator[Claim]:
    clean, attacked = lines("no attack", "multi-krum"), lines("4 attackers", "multi-krum")
    loss = clean.mean - attacked.mean
    yield Claim("nodes", f"ten honest nodes lose at most 3 points; {attacked.note}", loss, loss <= 0.03)


ROWS: Rows = {
    "nodes": (lambda out: row_nodes(), claims_nodes),
}
