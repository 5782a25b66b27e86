"""Arms of `vanishing_variance.py`: starts and merges that are set beside each other, and FedAvg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanishing_variance_runs import UNTIL_S, Wanted, results

PEERS, DEGREE = 50, 8

INDEPENDENT = {"model.init": "independent"}
COMMON = {"model.init": "shared"}
PLAIN = {"merge.kind": "average"}
CORRECTED = {"merge.kind": "variance-corrected"}
FEDAVG = {
    # All peers are clients; an average after every local step.
    "scenario.algorithm": "fedavg",
    "protocol.kind": "fedavg",
    "protocol.sample_size": PEERS,
    "protocol.success_fraction": 1.0,
}
NO_MOMENTUM = {
    # In the long run this is the same step.
    "local.lr": 0.1,
    "local.momentum": 0.0,
}
DIRICHLET = {"data.partition": {"kind": "dirichlet", "alpha": 0.5, "samples_per_peer": 1397}}

ARMS: dict[str, dict[str, Any]] = {
    "independent, plain": INDEPENDENT | PLAIN,
    "independent, corrected": INDEPENDENT | CORRECTED,
    "common, plain": COMMON | PLAIN,
    "common, corrected": COMMON | CORRECTED,
    "fedavg": COMMON | PLAIN | FEDAVG,
    "independent, corrected, no momentum": INDEPENDENT | CORRECTED | NO_MOMENTUM,
    "fedavg, no momentum": COMMON | PLAIN | FEDAVG | NO_MOMENTUM,
}
SHORT, LONG = "independent, corrected", "independent, plain"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    seeds: list[int]
    jobs: int
    out: Path
    until_s: float = UNTIL_S
    peers: int = PEERS
    """Both of curves."""


def arms(options: Options, more: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    runs = [
        Wanted(
            seed,
            of_size(settings | more, options.peers) | {"stop.rounds": int(options.until_s / 5)},
            until_s=options.until_s,
        )
        for settings in ARMS.values()
        for seed in options.seeds
    ]
    found = results(runs, options.out, options.jobs)
    count = len(options.seeds)
    return {name: found[place * count : (place + 1) * count] for place, name in enumerate(ARMS)}


def of_size(settings: dict[str, Any], peers: int) -> dict[str, Any]:
    """Return an arm's settings with another number of peers; where peers are sampled, all of them."""
    if peers == PEERS:
        return settings
    sampled = {"protocol.sample_size": peers} if "protocol.sample_size" in settings else {}
    return settings | {"scenario.peers": peers} | sampled
