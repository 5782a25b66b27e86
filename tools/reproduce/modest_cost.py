"""Parts of `modest.py`: bytes and rounds to an accuracy, beside D-PSGD and FedAvg."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from modest_figures import MODELS, best_accuracy, first_at, shown
from modest_runs import Bench, Wanted

RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SPLITS = {
    "i.i.d.": "data.partition={kind='iid'}",
    "Dirichlet 0.3": "data.partition={kind='dirichlet',alpha=0.3}",
}
COST_ROUNDS = 1000
HIDDEN_50K = "model.hidden=[256,128]"
DPSGD = {
    "one-peer": ("topology.kind=one-peer-exponential",),
    "4-regular": ("topology.kind=regular", "topology.degree=4"),
}


def dpsgd(kind: str, split: str, rate: float, seed: int) -> Wanted:
    # The same world as the scenario `modest`, another algorithm.
    return Wanted(
        "modest",
        seed,
        (
            "scenario.algorithm=d-psgd",
            "protocol={kind='rounds',gossip_steps=1}",
            "local.steps=5",
            f"local.lr={rate}",
            f"stop.rounds={COST_ROUNDS}",
            "evaluate.every=4",
            SPLITS[split],
            *DPSGD[kind],
        ),
    )


def modest(split: str, rate: float, seed: int, *more: str) -> Wanted:
    return Wanted(
        "modest",
        seed,
        (f"local.lr={rate}", "stop.rounds=100", "evaluate.every=1", SPLITS[split], *more),
    )


def cheapest(results: Sequence[dict[str, Any]], target: float) -> float:
    """Return the rate of `RATES` whose run reaches the target with the fewest bytes; the best one where none does."""
    points = [first_at(result, target) for result in results]
    if not any(points):
        return RATES[int(np.argmax([best_accuracy(result) for result in results]))]
    return RATES[int(np.argmin([point["bytes"] if point else np.inf for point in points]))]


def cost(bench: Bench) -> Iterator[str]:
    """E1."""
    seeds = bench.seeds[:3]
    for split in SPLITS:
        pairs = [(kind, rate) for kind in DPSGD for rate in RATES]
        wanted = [dpsgd(kind, split, rate, seeds[0]) for kind, rate in pairs]
        found = dict(zip(pairs, bench.run(wanted), strict=True))
        best = {kind: max(RATES, key=lambda r: best_accuracy(found[kind, r])) for kind in DPSGD}
        tops = {kind: best_accuracy(found[kind, best[kind]]) for kind in DPSGD}
        tried = bench.run([modest(split, rate, seeds[0]) for rate in RATES])
        yield f"{split}: best mean accuracy {shown(tops)} %, with learning rates {best}"
        # Where one-peer never comes near the best, what it reaches itself is compared, too.
        for words, target in (
            ("best of both", 0.95 * max(tops.values())),
            ("one-peer's best", 0.95 * tops["one-peer"]),
        ):
            yield f"  to {100 * target:.1f} %, 95 % of the {words}:"
            rates = {"MoDeST": cheapest(tried, target)}
            for kind in DPSGD:
                rates[kind] = cheapest([found[kind, rate] for rate in RATES], target)
            runs = bench.run(
                [modest(split, rates["MoDeST"], seed) for seed in seeds]
                + [dpsgd(kind, split, rates[kind], seed) for kind in DPSGD for seed in seeds]
            )
            yield from _cost_table(
                dict(zip(rates, np.array(runs).reshape(3, -1), strict=True)), rates, target
            )
    rounds = 100
    (large,) = bench.run([Wanted("modest", 0, (HIDDEN_50K, f"stop.rounds={rounds}", "evaluate.every=50"))])
    per_round = sum(large["sent"][kind] for kind in MODELS) / rounds
    total = sum(large["bytes"].values())
    rest = total - sum(large["payload"].values())
    yield f"models per round {per_round:.2f}; 2·a·s - 1.1·a = 18.9 ({100 * (per_round / 18.9 - 1):+.1f} %)"
    yield f"control and view bytes with 50,826 parameters: {100 * rest / total:.2f} % of {total / 1e6:.0f} MB"


def _cost_table(
    runs: dict[str, Sequence[dict[str, Any]]], rates: dict[str, float], target: float
) -> Iterator[str]:
    means: dict[str, float] = {}
    for name, results in runs.items():
        reached = [first_at(result, target) for result in results]
        # What a run has sent in vain is a lower bound of what it would need.
        points = [point or result["curve"][-1] for point, result in zip(reached, results, strict=True)]
        means[name] = float(np.mean([point["bytes"] for point in points]))
        missed = sum(point is None for point in reached)
        words = f", and {missed} of {len(reached)} seeds did not reach it" if missed else ""
        bound = "more than " if missed else ""
        rounds = np.mean([point["round"] for point in points])
        yield (
            f"    {name:10} lr {rates[name]:4} {bound}{means[name] / 1e6:.1f} MB in {rounds:.1f} rounds{words}: "
            f"{bound}{means[name] / means['MoDeST']:.1f} times MoDeST's"
        )


def parity(bench: Bench) -> Iterator[str]:
    """E2."""
    seeds = bench.seeds[:5]
    target = 0.9
    for split in SPLITS:
        results = bench.run(
            [
                modest(split, 0.2, seed, *more)
                for more in ((), ("scenario.algorithm=fedavg", "protocol.kind=fedavg"))
                for seed in seeds
            ]
        )
        rounds = [(first_at(result, target) or {"round": np.nan})["round"] for result in results]
        ours, theirs = np.array(rounds).reshape(2, len(seeds))
        yield (
            f"{split}: {100 * target:.0f} % after {ours.mean():.1f} rounds, FedAvg after {theirs.mean():.1f} "
            f"({100 * (ours.mean() / theirs.mean() - 1):+.1f} %); by seed {ours.tolist()} and {theirs.tolist()}"
        )
