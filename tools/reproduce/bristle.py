"""What Bristle survives: the tables of one command.

    python tools/reproduce/bristle.py [--seeds 0-4] [--jobs N] [--out runs/bristle] [--only TABLE] [--json]

The scenarios `bristle` (ten honest peers, digits, random frozen features, four of ten classes each, two images of
every one) and `bristle-iid` (all classes, ten images of every one) in the virtual engine, 200 rounds. Attackers come on
top of the ten honest peers, are connected to all of them and hold all classes. Finished runs are not done again.

    unlike      four of ten classes, no attack: Bristle, its stock form, the average, and rules that compare models as
                wholes; and every peer alone
    labels      the same with 5, 15 and 24 attackers that learn from labels y - 1
    undeclared  the same with 15 such attackers, of whom rules that need to be told of f are told of 4
    swap        one and three attackers that copy the honest columns that a victim can test and swap all others, and
                three that permute three columns in one broadcast to all
    alike       all classes: no attack, three attackers of five kinds, and twelve that flip labels or signs

Mean ± standard deviation over the seeds of the honest peers' mean accuracy, and the worst honest peer of any seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import sweep

HONEST = 10
BRISTLE: tuple[str, ...] = ()
STOCK = ("merge.hardened=false",)
AVERAGE = ("merge.kind=average",)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    table: str
    label: str
    settings: tuple[str, ...] = ()
    scenario: str = "bristle"

    def runs(self, seeds: Sequence[int], out: Path) -> list[sweep.Run]:
        """Return its runs, one per seed."""
        return sweep.plan(self.scenario, "virtual", self.settings, seeds, out / self.scenario)


def rule(name: str, f: int | None = None) -> tuple[str, ...]:
    """Return the settings of another merge rule."""
    return (f"merge.kind={name}", *(() if f is None else (f"merge.f={f}",)))


def attacked(kind: str, count: int, *more: str, samples: int | None = None) -> tuple[str, ...]:
    """Return the settings of `count` attackers beside the honest peers."""
    settings = [f"scenario.peers={HONEST + count}", f"attack.kind={kind}", f"attack.count={count}"]
    if samples is not None:
        settings += ["attack.data=all", f"attack.samples_per_class={samples}"]
    return (*settings, *more)


def unlike() -> list[Row]:
    """Return the rows without attack, where peers hold different classes."""
    rules = {
        "Bristle": BRISTLE,
        "Bristle, stock": STOCK,
        "average": AVERAGE,
        "Krum, f = 1": rule("krum", 1),
        "UBAR": rule("ubar", 1),
        "alone": ("protocol.gossip_steps=0",),
    }
    return [Row("unlike", label, settings) for label, settings in rules.items()]


def labels() -> list[Row]:
    """Return the rows of label flippers."""
    return [
        Row("labels", f"{label}, {count} attackers", (*settings, *attacked("label-flip", count, samples=2)))
        for count in (5, 15, 24)
        for label, settings in (("Bristle", BRISTLE), ("Bristle, stock", STOCK), ("average", AVERAGE))
    ]


def undeclared() -> list[Row]:
    """Return the rows of rules that are told of too few attackers."""
    names = ("trimmed-mean", "multi-krum", "nnm+trimmed-mean", "nna", "cs-plus")
    flippers = attacked("label-flip", 15, samples=2)
    rows = [Row("undeclared", f"{name}, f = 4", (*rule(name, 4), *flippers)) for name in names]
    return [Row("undeclared", "Bristle", flippers), *rows]


def swap() -> list[Row]:
    """Return the rows of attacks on columns that a victim cannot test."""
    rows = []
    for label, settings in (("Bristle", BRISTLE), ("Bristle, stock", STOCK)):
        rows += [
            Row("swap", f"{label}, per victim, {count}", (*settings, *attacked("foreign-swap", count)))
            for count in (1, 3)
        ]
        broadcast = attacked("foreign-swap", 3, "attack.broadcast=true")
        rows.append(Row("swap", f"{label}, broadcast, 3", (*settings, *broadcast)))
    return rows


def alike() -> list[Row]:
    """Return the rows where all peers hold all classes."""
    rows = [
        Row("alike", "Bristle, no attack", BRISTLE, "bristle-iid"),
        Row("alike", "average, no attack", AVERAGE, "bristle-iid"),
    ]
    few = ("sign-flip", "ipm", "alie", "gaussian")
    attacks = [("label-flip", 3, 10), *((kind, 3, None) for kind in few)]
    attacks += [("label-flip", 12, 10), ("sign-flip", 12, None)]
    for kind, count, samples in attacks:
        shared = attacked(kind, count, samples=samples)
        for label, settings in (("Bristle", BRISTLE), ("average", AVERAGE)):
            rows.append(Row("alike", f"{label}, {count} {kind}", (*settings, *shared), "bristle-iid"))
    return rows


TABLES = {"unlike": unlike, "labels": labels, "undeclared": undeclared, "swap": swap, "alike": alike}


def measured(row: Row, seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Return what a row's finished runs say."""
    found = [summary["accuracy"] for _, summary in sweep.summaries(row.runs(seeds, out))]
    means = np.array([accuracy["mean"] for accuracy in found])
    return {
        "table": row.table,
        "row": row.label,
        "accuracy": float(means.mean()),
        "accuracy_std": float(means.std()),
        "worst": min(accuracy["min"] for accuracy in found),
        "accuracies": means.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/bristle"))
    parser.add_argument("--only", action="append", choices=list(TABLES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = sweep.parse_seeds(options.seeds)
    rows = [row for name in options.only or TABLES for row in TABLES[name]()]
    runs = [run for row in rows for run in row.runs(seeds, options.out)]
    for _ in sweep.carry_out(runs, jobs=options.jobs, tell=sweep.tell_line):
        pass
    results = [measured(row, seeds, options.out) for row in rows]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{HONEST} honest peers, {len(seeds)} seeds: mean ± standard deviation, worst peer")
    table = ""
    for result in results:
        if result["table"] != table:
            table = result["table"]
            print(f"\n{table}")
        print(
            f"  {result['row']:32} {100 * result['accuracy']:6.2f} ± {100 * result['accuracy_std']:4.2f} "
            f"{100 * result['worst']:8.2f}"
        )


if __name__ == "__main__":
    main()
