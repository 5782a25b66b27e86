"""Machines that differ: what steps by deadline save, and what weights by participation do for who is seldom heard.

    python tools/reproduce/uneven.py [--seeds 0-2] [--out runs/uneven] [--smoke] [--json]

Virtual engine. `wan-uneven` (20 peers over slow links, half of them eight times slower): as many steps as fit 0.64 s,
beside 20 steps at all peers. Told are the accuracy at the end and the virtual seconds until 90 % of what the fixed
steps come to. `seldom` (20 peers, six of which are there for a second in four and alone have two of the ten classes):
FedAU's weights by participation beside the rows of W. Means over the seeds. Finished runs are not done again. The exit
status is 1 where the seconds do not fall by 30 %, or participation is not 2 points ahead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scenarios import sweep

STEPS = {
    "20 steps": ("local.steps=20", "stop.rounds=30"),
    "as many as fit 0.64 s": (),
}
WEIGHTS = {
    "rows of W": ("protocol.weighing=row",),
    "participation": ("protocol.weighing=participation",),
}
SMOKE = ("stop.rounds=2", "scenario.peers=6")
SHARE = 0.9
"""Of the final accuracy of fixed steps: what the seconds are told for."""
SECONDS_MIN, POINTS_MIN = 0.3, 2.0
"""By how much seconds are to fall, and accuracy is to rise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; return 1 where they do not show what they are to show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--out", type=Path, default=Path("runs/uneven"))
    parser.add_argument("--smoke", action="store_true", help="two rounds of six peers: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    steps = _runs("wan-uneven", STEPS, options)
    weights = _runs("seldom", WEIGHTS, options)
    goals = [SHARE * each["accuracy"]["mean"] for each in steps["20 steps"]]
    seconds = {name: _seconds(runs, goals) for name, runs in steps.items()}
    table = {name: _row(runs) | {"seconds": seconds[name]} for name, runs in steps.items()}
    table |= {name: _row(runs) for name, runs in weights.items()}
    before, after = seconds.values()
    saved = None if before is None or after is None else 1 - after / before
    points = table["participation"]["mean"] - table["rows of W"]["mean"]
    if options.json:
        print(json.dumps({"rows": table, "saved": saved, "points": points}))
    else:
        _tell(table, saved, points)
    held = saved is not None and saved >= SECONDS_MIN and points >= POINTS_MIN
    return 0 if held or options.smoke else 1


def _runs(
    scenario: str, methods: Mapping[str, Sequence[str]], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Return the summaries of each method, one for each seed."""
    out = Path(tempfile.mkdtemp(prefix="uneven-")) if options.smoke else options.out
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    found = {}
    for method, settings in methods.items():
        axes = list(settings)
        if options.smoke:
            axes = [*(axis for axis in axes if not axis.startswith("stop.rounds")), *SMOKE]
        runs = sweep.plan(scenario, "virtual", axes, seeds, out)
        for _ in sweep.carry_out(runs, jobs=0 if options.smoke else None, tell=sweep.tell_line):
            pass
        found[method] = [json.loads((run.folder / "summary.json").read_text()) for run in runs]
    return found


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return mean, worst peer and average of all models in %, and the seconds of the whole run."""
    return {
        "mean": 100 * fmean(run["accuracy"]["mean"] for run in runs),
        "worst": 100 * fmean(run["accuracy"]["min"] for run in runs),
        "merged": 100 * fmean(run["accuracy_of_mean"] for run in runs),
        "all_seconds": fmean(run["time"] for run in runs),
    }


def _seconds(runs: Sequence[Mapping[str, Any]], goals: Sequence[float]) -> float | None:
    """Return the mean virtual seconds until each run came to its goal; None where one did not."""
    found = [
        next((point["time"] for point in run["curve"] if point["accuracy_mean"] >= goal), None)
        for run, goal in zip(runs, goals, strict=True)
    ]
    return None if None in found else fmean(found)


def _tell(table: Mapping[str, Mapping[str, float | None]], saved: float | None, points: float) -> None:
    for name, row in table.items():
        seconds = f"  {row['seconds']:.1f} s to {SHARE:.0%} of fixed steps'" if row.get("seconds") else ""
        print(
            f"{name:24} mean {row['mean']:.1f}  worst {row['worst']:.1f}  merged {row['merged']:.1f}  "
            f"all rounds {row['all_seconds']:.1f} s{seconds}"
        )
    told = "not reached" if saved is None else f"{100 * saved:.0f} % fewer seconds"
    print(f"steps by deadline: {told}; participation: {points:+.1f} points")


if __name__ == "__main__":
    sys.exit(main())
