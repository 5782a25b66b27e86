"""What MoDeST costs and what it survives: one table per part.

    python tools/reproduce/modest.py [cost parity samples staged instant join shrink processes scale]
                                     [--seeds 0-19] [--jobs 2] [--smoke]

Digits, 100 peers, samples of 10, virtual engine, unless a part says otherwise. Without names, all parts are done.

cost       bytes until 95 % of the best mean accuracy of D-PSGD, learning rates tuned for each method; messages; control
parity     rounds until that accuracy, beside FedAvg with the same samples
samples    how often peers that draw the same sample get the same one, and how evenly load falls
staged     80 of 100 peers crash, five a minute from 300 s on, beside 20 peers alone
instant    80 of 100 peers vanish at once: their processes end, or they fall silent and no connection is closed
join       ten peers join, one a minute: with turns (the scenario's sampler) and drawn anew each round (the paper's)
shrink     a small window and no faults, with and without signs of life
processes  12 real nodes, 6 killed in the middle, 2 of them started again
scale      1,000 peers, samples of 13, 200 rounds
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from modest_cost import cost, parity
from modest_crashes import instant, staged
from modest_members import join, samples, shrink
from modest_runs import Bench
from modest_worlds import processes, scale

from scenarios.sweep import parse_seeds

PARTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    part.__name__: part for part in (cost, parity, samples, staged, instant, join, shrink, processes, scale)
}


SMOKE = ("parity",)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="one part, two rounds: to see that it works")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    bench = Bench(options.jobs, parse_seeds(options.seeds))
    if options.smoke:
        options.parts, bench = SMOKE, Bench(0, [0], ["stop.rounds=2", "evaluate.every=1"])
    for name in options.parts or PARTS:
        began = time.monotonic()
        print(f"--- {name}", flush=True)
        for line in PARTS[name](bench):
            print(line, flush=True)
        print(f"    ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
