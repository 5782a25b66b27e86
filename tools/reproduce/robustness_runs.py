"""Runs of the cases of `robustness.py`, and what is measured in them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from robustness_cases import Case
from robustness_claims import Line

from scenarios import sweep


def runs_of(one: Case, seeds: Sequence[int], out: Path) -> list[sweep.Run]:
    folder = out / one.row / f"{one.what},{one.rule}".replace(" ", "-").replace("+", "_")
    return [
        sweep.Run(one.scenario, one.engine, one.settings, seed, folder / f"seed-{seed}") for seed in seeds
    ]


def measured(one: Case, seeds: Sequence[int], out: Path) -> Line:
    found = [summary for _, summary in sweep.summaries(runs_of(one, seeds, out))]
    accuracies = [summary["accuracy"]["mean"] for summary in found]
    note = ""
    if one.row == "nodes" and found[0]["attack"] is not None:
        rejected = found[0]["faults"]["rejected_messages"]
        models = {
            key: count for key, count in found[0]["attack"]["attackers_models"].items() if key not in rejected
        }
        told = {**rejected, **{f"by the rule: {key}": count for key, count in models.items()}}
        note = ", ".join(f"{reason} {count}" for reason, count in told.items())
    return Line(
        one.row,
        one.what,
        one.rule,
        float(np.mean(accuracies)),
        float(np.std(accuracies)),
        float(np.mean([summary["accuracy"]["min"] for summary in found])),
        float(np.mean([summary["consensus_distance"] for summary in found])),
        accuracies,
        note,
    )


def do_cases(cases: Sequence[Case], seeds: Sequence[int], out: Path, jobs: int | None) -> list[Line]:
    """Run what has not been run, and return what was measured."""
    for engine in ("virtual", "processes"):
        runs = [run for one in cases if one.engine == engine for run in runs_of(one, seeds, out)]
        if runs:
            for _ in sweep.carry_out(runs, jobs=jobs, tell=_tell):
                pass
    return [measured(one, seeds, out) for one in cases]


def _tell(run: sweep.Run, done: int, of: int) -> None:
    print(f"\r{done}/{of}  {run.folder.parent.parent.name}/{run.folder.parent.name}", end="", file=sys.stderr)
