"""A base of five digits tuned to ten in a seed space of 1024 numbers: by gradients, and by two losses a step.

    python tools/reproduce/fedkseed.py [--seeds 0-2] [--out runs/fedkseed] [--smoke] [--json]

The scenario `fedkseed` (10 peers, Dirichlet 1.0) in the virtual engine: ten steps a round by the network's gradient, or
200 by `spsa`, which passes forward alone.
Columns: mean accuracy of the peers' own models, of the worst peer, in %, means over the seeds; bytes a message and of
all that a peer sends in a round. Finished runs are not done again. The exit status is 1 where a message has more than
4300 bytes (4.2 KiB), or tuning does not come above the half that the base can know by 20 points.
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

METHODS: Mapping[str, Mapping[str, str]] = {
    "gradients": {},
    "two losses a step": {
        "local.optimizer": "{ kind = 'spsa', epsilon = 0.01 }",
        "local.steps": "200",
        "local.lr": "3.0",
    },
}
SMOKE = {"stop.rounds": "2", "scenario.peers": "6", "model.adapter.size": "64", "local.steps": "3"}
BYTES_MAX = 4300
BASE_SHARE = 0.5
"""Of ten digits, of which the base knows five."""
POINTS_MIN = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where messages are too large or tuning does too little."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--out", type=Path, default=Path("runs/fedkseed"))
    parser.add_argument("--smoke", action="store_true", help="two rounds of six peers: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="fedkseed-")) if options.smoke else options.out
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    rows = {}
    for method, settings in METHODS.items():
        axes = {**settings, **(SMOKE if options.smoke else {})}
        said = [f"{key}={value}" for key, value in axes.items()]
        runs = sweep.plan("fedkseed", "virtual", said, seeds, out)
        for _ in sweep.carry_out(runs, jobs=0 if options.smoke else None, tell=sweep.tell_line):
            pass
        rows[method] = _row([json.loads((run.folder / "summary.json").read_text()) for run in runs])
    if options.json:
        print(json.dumps(rows))
    else:
        for method, row in rows.items():
            print(
                f"{method:24} mean {row['mean']:.1f}  worst {row['worst']:.1f}  {row['message_bytes']:.0f} bytes a "
                f"message, {row['round_bytes']:.0f} a round"
            )
    ours = rows["gradients"]
    held = ours["message_bytes"] <= BYTES_MAX and ours["mean"] >= 100 * BASE_SHARE + POINTS_MIN
    return 0 if held or options.smoke else 1


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    messages = [run["messages"]["by_type"]["model"] for run in runs]
    return {
        "mean": 100 * fmean(run["accuracy"]["mean"] for run in runs),
        "worst": 100 * fmean(run["accuracy"]["min"] for run in runs),
        "message_bytes": fmean(
            run["bytes"]["by_type"]["model"] / count for run, count in zip(runs, messages, strict=True)
        ),
        "round_bytes": fmean(run["bytes"]["per_peer_mean"] / run["rounds"] for run in runs),
    }


if __name__ == "__main__":
    sys.exit(main())
