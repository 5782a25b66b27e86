"""What momentum of the network does on unequal data: quasi-global beside heavy-ball and none, at several rates.

    python tools/reproduce/quasi_global.py [--seeds 0-2] [--out runs/quasi-global] [--smoke] [--json]

The scenario `qg-ring` (20 peers on a ring, digits, Dirichlet 0.1, ten steps a round, 60 rounds) in the virtual engine.
Heavy-ball momentum (0.9) begins anew in each round, or is kept. Columns: mean accuracy of the peers' own models, of the
worst peer, of the average of all models, in %, means over the seeds. Finished runs are not done again. The exit status
is 1 where quasi-global momentum is not 3 points above heavy-ball at its best rate, and 5 for the worst peer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scenarios import sweep

SCENARIO = "qg-ring"
METHODS = {
    "plain SGD": ("local.momentum=0.0", "local.optimizer.kind=sgd"),
    "heavy-ball, anew each round": ("local.momentum=0.9", "local.optimizer.kind=sgd"),
    "heavy-ball, kept": ("local.momentum=0.9", "local.optimizer.kind=sgd", "local.keep_momentum=true"),
    "quasi-global": ("local.momentum=0.9", "local.optimizer.kind=quasi-global"),
}
RATES = (0.03, 0.1, 0.3)
MEAN_MIN, WORST_MIN = 3.0, 5.0
"""Points by which quasi-global momentum is to be ahead."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where quasi-global momentum is not as far ahead as it is to be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--out", type=Path, default=Path("runs/quasi-global"))
    parser.add_argument("--smoke", action="store_true", help="two rounds, one rate: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="quasi-global-")) if options.smoke else options.out
    rates = RATES[:1] if options.smoke else RATES
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    rounds = ["stop.rounds=2", "scenario.peers=4"] if options.smoke else []
    rows: list[dict[str, Any]] = []
    for method, settings in METHODS.items():
        for rate in rates:
            axes = [*settings, f"local.lr={rate}", *rounds]
            runs = sweep.plan(SCENARIO, "virtual", axes, seeds, out)
            for _ in sweep.carry_out(runs, jobs=0 if options.smoke else None, tell=sweep.tell_line):
                pass
            told = [json.loads((run.folder / "summary.json").read_text()) for run in runs]
            rows.append(
                {
                    "method": method,
                    "lr": rate,
                    "mean": 100 * fmean(each["accuracy"]["mean"] for each in told),
                    "worst": 100 * fmean(each["accuracy"]["min"] for each in told),
                    "merged": 100 * fmean(each["accuracy_of_mean"] for each in told),
                }
            )
    heavy = [row for row in rows if row["method"].startswith("heavy-ball")]
    ours = max((row for row in rows if row["method"] == "quasi-global"), key=lambda row: row["mean"])
    ahead = {key: ours[key] - max(heavy, key=lambda row: row["mean"])[key] for key in ("mean", "worst")}
    if options.json:
        print(json.dumps({"rows": rows, "ahead": ahead}))
    else:
        for row in rows:
            print(
                f"{row['method']:28} lr {row['lr']:<5} mean {row['mean']:.1f}  worst {row['worst']:.1f}  "
                f"merged {row['merged']:.1f}"
            )
        print(
            f"ahead of heavy-ball at its best rate: mean {ahead['mean']:+.1f}, worst peer {ahead['worst']:+.1f}"
        )
    fell = ahead["mean"] < MEAN_MIN or ahead["worst"] < WORST_MIN
    return 1 if fell and not options.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
