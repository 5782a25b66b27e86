"""Outer steps beside plain averaging, for equal bytes: fifty own steps between exchanges in random pairs.

    python tools/reproduce/outer_steps.py [--seeds 0-4] [--out runs/outer] [--smoke] [--json]

Rows, all of the scenario `noloco` (20 peers, digits, Dirichlet 0.3, 30 rounds) in the virtual engine; accuracies are
means over peers and seeds, of models that were just mixed:

    noloco    heavy-ball steps (rate 0.7, momentum 0.5) are 0.5 points above plain averaging at least, for equal bytes
    refused   momentum 0.9 at rate 0.7, which drives models apart, is refused with a sentence

The exit status is 1 where a row does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import scenarios
from gossip.errors import SettingError
from scenarios import sweep

AHEAD_MIN = 0.5
"""Points."""

AVERAGING: Mapping[str, Any] = {"outer.kind": "lerp", "outer.rate": 1.0, "outer.momentum": None}
"""The whole way: no outer step, to the bit."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    must: str
    measured: str
    ok: bool


class Runs(NamedTuple):
    """Which runs, and where they lie."""

    seeds: Sequence[int]
    out: Path
    fewer: Mapping[str, Any]

    def told(self, name: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the summaries over the seeds; finished runs are not done again."""
        found = []
        for seed in self.seeds:
            folder = self.out / f"{name}-{seed}"
            if not (folder / "summary.json").exists():
                scenarios.run(
                    "noloco",
                    seed=seed,
                    out=folder,
                    force=True,
                    report=False,
                    overrides={**self.fewer, **values},
                )
            found.append(json.loads((folder / "summary.json").read_text()))
        return found


def noloco(runs: Runs) -> Row:
    """Means, worst peers and averages of all models, and bytes of tensors."""
    plain, outer = runs.told("averaging", AVERAGING), runs.told("noloco", {})

    def figures(told: Sequence[dict[str, Any]]) -> list[float]:
        found = [(t["accuracy"]["mean"], t["accuracy"]["min"], t["accuracy_of_mean"]) for t in told]
        return [100 * fmean(column) for column in zip(*found, strict=True)]

    ahead = figures(outer)[0] - figures(plain)[0]
    equal = [t["bytes"]["payload"] for t in plain] == [t["bytes"]["payload"] for t in outer]

    def said(values: list[float]) -> str:
        return " / ".join(f"{value:.1f}" for value in values)

    return Row(
        "noloco",
        f"{AHEAD_MIN} points above averaging for equal bytes",
        f"averaging {said(figures(plain))}, noloco {said(figures(outer))} (mean / worst / merged, %): {ahead:+.1f}, "
        f"bytes {'equal' if equal else 'differ'}",
        ahead >= AHEAD_MIN and equal,
    )


def refused(runs: Runs) -> Row:
    """The sentence."""
    try:
        runs.told("refused", {"outer.momentum": 0.9})
    except SettingError as error:
        return Row("refused", "momentum 0.9 at rate 0.7 is refused", str(error), True)
    return Row("refused", "momentum 0.9 at rate 0.7 is refused", "it ran", False)


ROWS: Sequence[Callable[[Runs], Row]] = (noloco, refused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; return 1 where one does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/outer"))
    parser.add_argument("--smoke", action="store_true", help="one seed, two rounds: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="outer-")) if options.smoke else options.out
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    fewer = {"stop.rounds": 2, "scenario.peers": 4} if options.smoke else {}
    rows = []
    for row in ROWS:
        rows.append(row(Runs(seeds, out, fewer)))
        if not options.json:
            print(
                f"{rows[-1].name:10}{'ok' if rows[-1].ok else 'FAILS':7}{rows[-1].must}: {rows[-1].measured}"
            )
    if options.json:
        print(json.dumps([row._asdict() for row in rows]))
    return 0 if options.smoke or all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
