"""Sparse graphs and the merge at the end: what they reach beside a ring, and at how many models.

    python tools/reproduce/small_links_graphs.py [--seeds 0-4] [--engine virtual] [--out runs/small-links] [--smoke]

`pairs` and `base-2` beside `ring-dfedavg` (20 peers, digits, Dirichlet 0.3, 60 rounds); `single-merge` (Dirichlet 0.1);
and `small-links`, pairs with int8 and a coded merge, beside the ring at a fifteenth of its bytes. Accuracies are means
of the peers' own models, over the seeds; models are payload bytes over those of a float32 model. Finished runs are not
done again. The exit status is 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from scenarios import sweep
from topologies import Topology

MODEL_BYTES = 4 * (64 * 64 + 64 + 64 * 10 + 10)
"""The scenarios' network, 64-64-10, as float32."""

EXACT_MAX = 1e-12
GAIN_MIN = 20.0
"""Points."""
DISTANCE_MAX = 1e-5
SAVED_MIN = 15.0


class Row(NamedTuple):
    """One thing that must hold."""

    name: str
    must: str
    measured: str
    ok: bool


class Runs:
    """Runs of scenarios of the library, kept in a folder.

    Args:
        seeds: of each scenario.
        engine: "virtual" or "processes".
        out: where run folders are.
        settings: KEY=VALUE for all.
    """

    def __init__(self, seeds: Sequence[int], engine: str, out: Path, settings: Sequence[str] = ()) -> None:
        self._seeds, self._engine, self._out, self._settings = seeds, engine, out, settings

    def of(self, scenario: str) -> list[Mapping[str, Any]]:
        """Return the summary of each seed's run."""
        settings = ["evaluate.every=60", *self._settings]
        runs = sweep.plan(scenario, self._engine, settings, self._seeds, self._out / scenario / self._engine)
        for _ in sweep.carry_out(runs, jobs=0, tell=sweep.tell_line):
            pass
        return [json.loads((run.folder / "summary.json").read_text()) for run in runs]


def accuracy(told: Sequence[Mapping[str, Any]], of: str = "mean") -> float:
    """Return the mean over the seeds, in %; of the peers' mean, or of the worst."""
    return 100 * fmean(each["accuracy"][of] for each in told)


def models(told: Sequence[Mapping[str, Any]]) -> float:
    """Return how many models' bytes a peer has sent, tensors only."""
    return fmean(each["bytes"]["payload"] / each["peers"] for each in told) / MODEL_BYTES


def graphs(runs: Runs) -> Iterator[Row]:
    """Yield what sparse graphs reach beside the ring."""
    ring = runs.of("ring-dfedavg")
    for name in ("pairs", "base-2"):
        told = runs.of(name)
        share = models(told) / models(ring)
        yield Row(
            name,
            "the ring's accuracy at half the models",
            f"{accuracy(told):.1f} % (worst {accuracy(told, 'min'):.1f}) with {models(told):.1f} models a peer, the "
            f"ring {accuracy(ring):.1f} % ({accuracy(ring, 'min'):.1f}) with {models(ring):.1f}",
            accuracy(told) >= accuracy(ring) and share <= 0.5 + 1e-9,
        )


def products(peers_max: int = 129) -> Iterator[Row]:
    """Yield how exactly a period of base-(k+1) averages."""
    worst = 0.0
    for degree in range(1, 5):
        for peers in range(degree + 1, peers_max + 1):
            topology, product = Topology("base", peers, degree=degree), np.eye(peers)
            for round in range(topology.period or 0):
                product = topology.matrix(round) @ product
            worst = max(worst, float(np.abs(product - 1 / peers).max()))
    yield Row(
        "base-(k+1)",
        f"error of the product over a period at most {EXACT_MAX:g}, 2 to {peers_max} peers, k = 1 to 4",
        f"{worst:.1e}",
        worst <= EXACT_MAX,
    )


def merge(runs: Runs) -> Iterator[Row]:
    """Yield what one merge at the end does."""
    told = runs.of("single-merge")
    before = 100 * fmean(each["final_steps"]["before"]["mean"] for each in told)
    distance = max(each["consensus_distance"] for each in told)
    yield Row(
        "single-merge",
        f"{GAIN_MIN:g} points more by the final steps, consensus distance below {DISTANCE_MAX:g}",
        f"{before:.1f} to {accuracy(told):.1f} %, distance {distance:.1e}, {models(told):.1f} models a peer",
        accuracy(told) - before >= GAIN_MIN and distance < DISTANCE_MAX,
    )


def together(runs: Runs) -> Iterator[Row]:
    """Yield what all of it makes of the ring's bytes."""
    ring, told = runs.of("ring-dfedavg"), runs.of("small-links")
    saved = {
        key: fmean(each["bytes"][key] for each in ring) / fmean(each["bytes"][key] for each in told)
        for key in ("payload", "protocol")
    }
    yield Row(
        "small-links",
        f"the ring's accuracy at 1/{SAVED_MIN:g} of its bytes",
        f"{accuracy(told):.1f} % (worst {accuracy(told, 'min'):.1f}), the ring {accuracy(ring):.1f} % "
        f"({accuracy(ring, 'min'):.1f}); payload 1/{saved['payload']:.1f}, all bytes 1/{saved['protocol']:.1f}",
        accuracy(told) >= accuracy(ring) and min(saved.values()) >= SAVED_MIN,
    )


def rows(
    seeds: Sequence[int], engine: str, out: Path = Path("runs/small-links"), settings: Sequence[str] = ()
) -> Iterator[Row]:
    """Yield everything that must hold, as it is measured."""
    runs = Runs(seeds, engine, out, settings)
    yield from products(16 if settings else 129)
    yield from graphs(runs)
    yield from merge(runs)
    yield from together(runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; return 1 where one does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--engine", choices=("virtual", "processes"), default="virtual")
    parser.add_argument("--out", type=Path, default=Path("runs/small-links"))
    parser.add_argument("--smoke", action="store_true", help="two rounds of four peers: does it run?")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="small-links-")) if options.smoke else options.out
    small = ["stop.rounds=2", "scenario.peers=4"] if options.smoke else []
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    good = True
    for row in rows(seeds, options.engine, out, small):
        print(f"{'ok  ' if row.ok else 'NOT '} {row.name}: {row.measured}\n     must: {row.must}", flush=True)
        good = good and row.ok
    return 0 if good or options.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
