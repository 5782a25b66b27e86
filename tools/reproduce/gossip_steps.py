"""What gossip steps and topologies do to DFedSAM: the tables of one command.

    python tools/reproduce/gossip_steps.py [--seeds 0-4] [--out runs/gossip-steps] [--json] [--smoke]

The scenario `ring-dfedsam-mgs` (20 peers, digits, Dirichlet 0.3) in the virtual engine, with Q = 1, 2, 3, 4, 8 gossip
steps on a ring and Q = 1, 4 on the full graph, and with one step on ring, torus, exponential and full graph. Finished
runs are not done again.

λ is the second largest modulus of the mixing matrix' eigenvalues. In every round gossip must bring the consensus
distance down at least by λ^Q; the last column is the largest ratio to that bound over all rounds and seeds, at most 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import sweep
from topologies import Topology, spectrum

SCENARIO = "ring-dfedsam-mgs"
PEERS = 20
STEPS = (1, 2, 3, 4, 8)


Wanted = Mapping[str, Sequence[int]]
"""Topology -> gossip steps."""
ALL: Wanted = {"ring": STEPS, "torus": (1,), "exponential": (1,), "full": (1, 4)}
SMOKE: Wanted = {"ring": (1, 2), "full": (1,)}


def runs_of(
    kind: str, steps: Sequence[int], seeds: Sequence[int], out: Path, more: Sequence[str]
) -> list[sweep.Run]:
    axes = [f"topology.kind={kind}", "protocol.gossip_steps=" + ",".join(map(str, steps)), *more]
    return sweep.plan(SCENARIO, "virtual", axes, seeds, out)


def bound_ratio(summary: dict[str, Any], factor: float) -> float:
    """Return the largest of consensus after gossip / (λ^Q · consensus before), over the rounds."""
    if factor < 1e-9:
        # The full graph: all are equal after one step, to the rounding of float32.
        return (
            max(point["consensus_distance"] / point["consensus_before"] for point in summary["curve"]) / 1e-5
        )
    return max(
        point["consensus_distance"] / (factor * point["consensus_before"]) for point in summary["curve"]
    )


def rows_of(
    wanted: Wanted, seeds: Sequence[int], out: Path, *, jobs: int | None = None, more: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Do the runs; return the table."""
    runs = [run for kind, steps in wanted.items() for run in runs_of(kind, steps, seeds, out, more)]
    for _ in sweep.carry_out(runs, jobs=jobs, tell=sweep.tell_line):
        pass
    rows = []
    for kind in wanted:
        lambda_ = spectrum(Topology(kind, PEERS).matrix(0)).lambda_
        for steps in wanted[kind]:
            done = sweep.summaries(runs_of(kind, [steps], seeds, out, more))
            found = [summary for _, summary in done]
            accuracy = np.array([summary["accuracy"]["mean"] for summary in found])
            of_mean = np.array([summary["accuracy_of_mean"] for summary in found])
            rows.append(
                {
                    "topology": kind,
                    "lambda": lambda_,
                    "gossip_steps": steps,
                    "accuracy": float(accuracy.mean()),
                    "accuracy_std": float(accuracy.std()),
                    "accuracy_of_mean": float(of_mean.mean()),
                    "consensus_distance": float(np.mean([s["consensus_distance"] for s in found])),
                    "bound_ratio": max(bound_ratio(s, lambda_**steps) for s in found),
                    "accuracies": accuracy.tolist(),
                }
            )
    return rows


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/gossip-steps"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="three runs of one round: to see that it works")
    options = parser.parse_args(arguments)
    seeds = sweep.parse_seeds(options.seeds)
    if options.smoke:
        seeds = [0]
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(SMOKE, seeds, Path(folder), jobs=0, more=["stop.rounds=1"])
    else:
        rows = rows_of(ALL, seeds, options.out)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{PEERS} peers, {len(seeds)} seeds, mean ± standard deviation")
    print(
        f"{'topology':12} {'λ':>6} {'Q':>3} {'accuracy %':>14} {'of the mean %':>14} {'consensus':>10} {'/ bound':>8}"
    )
    for row in rows:
        print(
            f"{row['topology']:12} {row['lambda']:6.4f} {row['gossip_steps']:3d} "
            f"{100 * row['accuracy']:7.2f} ± {100 * row['accuracy_std']:4.2f} {100 * row['accuracy_of_mean']:14.2f} "
            f"{row['consensus_distance']:10.4f} {row['bound_ratio']:8.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
