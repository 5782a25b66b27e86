"""What does a merge cost? Rules beside the plain average and beside one copy of a model, in one run.

    python tools/bench/merging.py [SECTION ...] [--repetitions 7] [--json] [--smoke]

All on one thread. Times are medians over the repetitions; within a repetition the contenders take turns, and ratios are
medians of the ratios within it, so that a busy machine slows all of them alike. A memory copy is
`destination.copy_(model)`: it reads and writes a model once.

Sections:

    variance-corrected  10 models of 25 M parameters, in a few large tensors, and in the tensors of resnet18-gn
    average             10 models of 25 M parameters: traffic per second beside a copy's, into old and new memory
    robust              the same models: order statistics beside torch.median, distances beside torch.cdist, whole rules
    robust-peers        the virtual engine: 25 peers, full mesh, merges only
    peers               the virtual engine: 50 peers, 8 neighbours each, MLP 64-128-128-128-10, merges only
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch
from merging_large import average, robust, variance_corrected
from merging_peers import peers, robust_peers
from merging_turns import Row

SECTIONS: dict[str, Callable[[int, bool], list[Row]]] = {
    "variance-corrected": variance_corrected,
    "average": average,
    "robust": robust,
    "robust-peers": robust_peers,
    "peers": peers,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=f"of: {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small models, once: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.repetitions = 1
    unknown = [name for name in options.section if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; valid: {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    tables = {
        name: SECTIONS[name](options.repetitions, options.smoke) for name in options.section or SECTIONS
    }
    if options.json:
        print(json.dumps(tables, indent=1))
        return 0
    for name, rows in tables.items():
        print(f"\n{name}")
        for row in rows:
            numbers = "".join(
                f"{value:10.2f} {key}" if value == 0 or value >= 0.005 else f"{value:10.0e} {key}"
                for key, value in row.items()
                if isinstance(value, float)
            )
            print(f"  {row['what']:36} {row['name']:24}{numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
