"""Independent starts: plain averages lose their variance and learn nothing, corrected ones learn as if begun together.

    python tools/reproduce/vanishing_variance.py [curves dirichlet sizes depths protocols processes late plot]
                                                 [--seeds 0-2] [--jobs 2] [--out runs/vanishing-variance]
                                                 [--json] [--smoke]

The scenario `vanishing-variance` (digits, 50 peers on an 8-regular graph, MLP 64-128-128-128-10, one SGD step of 32
samples with learning rate 0.01 and momentum 0.9 in each period of 8 to 12 seconds, β = 0.5) in the virtual engine; time
is counted in virtual seconds, ten to an own update. Without names all parts are done; finished runs are not done again.

curves     gossip learning from independent and common starts, plain and corrected, and FedAvg with all peers; some also
           without momentum at ten times the learning rate. Seconds until 0.5, 0.8 and 0.9 are reached by the mean
           accuracy of the peers' own models, each right after a local update, and until 0.8 by the average of these
           models; the lowest variances of the weight tensors beside the starts', least and largest. (Whoever compares
           peers' own models with FedAvg's average compares two moments of a round: where peers' data differ, the
           average is far ahead of what went into it.)
dirichlet  the same where each peer draws its samples by class proportions of its own, from Dirichlet 0.5
sizes      seconds until 0.5 for 10, 20 and 50 peers, two hidden layers
depths     seconds until 0.5 for one, two and three hidden layers, 50 peers
protocols  rounds (one step and two gossip steps) and MoDeST, from independent starts; rounds have a doubly stochastic W
processes  eight real nodes over TLS, rounds on the full graph, from independent starts
late       a peer with a fresh model joins: its accuracy after five periods, and the largest loss of any other peer
plot       curves, variances and delays from the runs that are there, as OUT/vanishing-variance.png
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vanishing_variance_arms import Options
from vanishing_variance_curves import curves, dirichlet
from vanishing_variance_delays import depths, sizes
from vanishing_variance_figures import shown
from vanishing_variance_late import late
from vanishing_variance_plot import plot
from vanishing_variance_protocols import processes, protocols

from scenarios.sweep import parse_seeds

Part = Callable[[Options], dict[str, Any]]

PARTS: dict[str, Part] = {
    "curves": curves,
    "dirichlet": dirichlet,
    "sizes": sizes,
    "depths": depths,
    "protocols": protocols,
    "processes": processes,
    "late": late,
    "plot": plot,
}


def show(name: str, table: dict[str, Any]) -> None:
    print(f"\n{name}")
    limit = table.get("until_s", 0.0)
    for row in table.get("rows", []):
        cells = []
        for key, value in row.items():
            if isinstance(value, str):
                cells.append(f"{value:32}")
            elif "to 0." in key and not isinstance(value, list):
                cells.append(f"{key} {shown(value, limit):>7}")
            elif isinstance(value, list):
                cells.append(f"{key} " + ", ".join("-" if each is None else f"{each:.4g}" for each in value))
            else:
                cells.append(f"{key} {value:.4g}")
        print("  " + "   ".join(cells))
    for key, value in table.items():
        if key not in ("rows", "until_s"):
            print(f"  {key}: {value}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help="default: all")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/vanishing-variance"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="one part, ten peers, 25 s: to see that it works"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; valid: {', '.join(PARTS)}")
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            tell(
                {"curves": curves(Options([0], 0, Path(folder), until_s=25.0, peers=10))},
                as_json=options.json,
            )
        return 0
    chosen = Options(parse_seeds(options.seeds), options.jobs, options.out)
    for name in options.part or PARTS:
        tell({name: PARTS[name](chosen)}, as_json=options.json)
    return 0


def tell(tables: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(tables))
        return
    for name, table in tables.items():
        show(name, table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
