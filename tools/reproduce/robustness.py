"""Who survives what: merge rules under attack, the tables of one command.

    python tools/reproduce/robustness.py [ROW ...] [--seeds 0-4] [--out runs/robustness] [--jobs N] [--json] [--smoke]

Handwritten digits in the virtual engine, ten honest peers on a full graph unless a row says otherwise, behind the same
frozen random features for every rule. Non-i.i.d.: each honest peer has 4 of 10 classes (cyclic), 2 images of each;
i.i.d.: 10 images of each class. Attackers are further peers, connected to all, with images of every class. Flippers
(y → y-1) learn alone, merging nothing; where a column says "label-flip" they follow the protocol otherwise. In rows 1
to 3 honest peers keep a momentum of 0.9, as in the field's benchmarks: without it the noise of single mini-batches
drives honest models so far apart that CS+ can hardly move against four of fourteen (row 2 shows both). Accuracies are
of the honest peers' own models on 400 test images, mean over peers and seeds. Finished runs are not done again.

Rows: 1 i.i.d., nobody attacks · 2 i.i.d., 4 attackers of 14 · 3 i.i.d., 12 of 22 · 4 non-i.i.d., nobody attacks ·
5 non-i.i.d., 15 and 24 label flippers · 6 f under-declared · 7 foreign-swap · 8 100 peers · 9 slow peers, a late one,
long latency · 10 dissensus and spectral on two cliques · classes: 2, 3 and 6 classes per peer, and proportions from
Dirichlet 0.1 and 1, without attack and with 15 label flippers · matrix: every rule against every attack, non-i.i.d.,
3 of 13 · nodes: real processes over TLS. Default: all of them.

A claim's threshold is the published or prototyped figure, loosened by three points.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import robustness_classes
import robustness_iid
import robustness_matrix
import robustness_nodes
import robustness_non_iid
import robustness_worlds
from robustness_cases import ALL_KINDS, Case, case
from robustness_claims import Claim, Line, Rows
from robustness_runs import do_cases

from scenarios import sweep

MODULES = (
    robustness_iid,
    robustness_non_iid,
    robustness_worlds,
    robustness_classes,
    robustness_matrix,
    robustness_nodes,
)
ROWS: Rows = {name: row for module in MODULES for name, row in module.ROWS.items()}


def do_row(row: str, seeds: Sequence[int], out: Path, jobs: int | None) -> tuple[list[Line], list[Claim]]:
    """Run a row's cases and return its lines and claims."""
    make, claims = ROWS[row]
    lines = do_cases(make(out), seeds, out, jobs)
    by_name = {(line.what, line.rule): line for line in lines}
    return lines, list(claims(lambda what, rule: by_name[what, rule]))


def print_row(row: str, lines: Sequence[Line], claims: Sequence[Claim]) -> None:
    """Print a table of the row: rules down, what was done to them across; mean, and worst peer below."""
    whats = list(dict.fromkeys(line.what for line in lines))
    rules = list(dict.fromkeys(line.rule for line in lines))
    by_name = {(line.what, line.rule): line for line in lines}
    print(f"\nrow {row}: accuracy % of honest peers, mean ± standard deviation over seeds (worst peer)")
    if len(whats) <= 7:
        print(f"{'':24}" + "".join(f"{what:>22}" for what in whats))
        for rule in rules:
            cells = [by_name.get((what, rule)) for what in whats]
            print(f"{rule:24}" + "".join(f"{'' if cell is None else _cell(cell):>22}" for cell in cells))
    else:
        print(f"{'':18}" + "".join(f"{what[:10]:>11}" for what in whats))
        for rule in rules:
            print(
                f"{rule:18}"
                + "".join(
                    f"{100 * by_name[what, rule].mean:6.1f} {100 * by_name[what, rule].worst:4.0f}"
                    if (what, rule) in by_name
                    else " " * 11
                    for what in whats
                )
            )
    if row == "10":
        for line in lines:
            print(f"  consensus distance {line.rule:24} {line.what:12} {line.consensus:.4g}")
    for claim in claims:
        print(f"  {'holds' if claim.holds else 'FAILS'}  {claim.measured:7.3f}  {claim.says}")


def _cell(line: Line) -> str:
    return f"{100 * line.mean:5.1f} ± {100 * line.std:3.1f} ({100 * line.worst:4.1f})"


def smoke() -> list[Case]:
    """Return a few cases of one round."""
    more = ["stop.rounds=1", "evaluate.every=1"]
    return [
        case("smoke", what, rule, ALL_KINDS[what], attackers=1, more=more, honest=4)
        for what, rule in (("none", "bristle"), ("sign-flip", "multi-krum"), ("fang-krum", "balance"))
    ]


def main(arguments: Sequence[str]) -> int:
    """Print the tables; return 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="three runs of one round: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            print_row("smoke", do_cases(smoke(), [0], Path(folder), 0), [])
        return 0
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]}; valid: {', '.join(ROWS)}")
    seeds = sweep.parse_seeds(options.seeds)
    told: list[dict[str, Any]] = []
    failed = 0
    for row in options.rows or ROWS:
        lines, claims = do_row(row, seeds, options.out, options.jobs)
        failed += sum(not claim.holds for claim in claims)
        if options.json:
            told.append(
                {"row": row, "lines": [asdict(x) for x in lines], "claims": [asdict(x) for x in claims]}
            )
        else:
            print(file=sys.stderr)
            print_row(row, lines, claims)
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print(f"\n{len(seeds)} seeds; {failed} claims do not hold")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
