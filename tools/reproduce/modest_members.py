"""Parts of `modest.py`: who is drawn, who joins, and who is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from modest_figures import shown
from modest_runs import Bench, Wanted


def samples(bench: Bench) -> Iterator[str]:
    """E8, E9."""
    worlds = {
        "no faults": ("modest", ("stop.rounds=300",)),
        "staged crash": ("modest-crash-staged", ("stop.virtual_seconds=3000",)),
        "joining": ("modest-join", ("protocol.success_fraction=0.9",)),
        "churn": ("modest-churn", ()),
    }
    seeds = bench.seeds[:5]
    for words, (name, overrides) in worlds.items():
        for sampler in ("uniform", "permutation"):
            more = (*overrides, f"protocol.sampler={sampler}", "protocol.aggregators=2", "evaluate.every=50")
            results = bench.run([Wanted(name, seed, more) for seed in seeds])
            shares = {}
            for purpose in ("aggregators", "participants"):
                equal, rounds = np.sum([result["agreement"][purpose] for result in results], axis=0)
                shares[purpose] = equal / rounds
            yield f"{words:12} {sampler:11} rounds in which all draw the same: {shown(shares)} %"
    for sampler in ("uniform", "permutation"):
        more = (f"protocol.sampler={sampler}", "stop.rounds=400", "evaluate.every=100")
        for result in bench.run([Wanted("modest", seeds[0], more)]):
            counts, nbytes = np.array(result["participations"]), np.array(result["bytes_of_peers"])
            chi_square = ((counts - 40) ** 2 / (40 * 0.9)).sum()
            yield (
                f"load, {sampler}: trained {counts.min()} to {counts.max()} of 400 rounds, χ² {chi_square:.0f} "
                f"(uniform: 99.9 % below 148); bytes sent, most / mean {nbytes.max() / nbytes.mean():.2f}; "
                "an aggregator takes in and sends 2·s models at once"
            )


def join(bench: Bench) -> Iterator[str]:
    """E5."""
    for sampler in ("permutation", "uniform"):
        wanted = [Wanted("modest-join", seed, (f"protocol.sampler={sampler}",)) for seed in bench.seeds]
        worst, waits, lost, parts = [], [], 0, []
        for result in bench.run(wanted):
            lost += 200 - len({point["round"] for point in result["curve"]})
            parts.append(sum(result["participations"][index] > 0 for _, index in result["joined"]))
            own = []
            for time_s, index in result["joined"]:
                came = next(point["round"] for point in result["curve"] if point["time"] > time_s)
                own.append(result["first"][index] - came if result["first"][index] else 999)
            waits += own
            worst.append(max(own))
        yield (
            f"{sampler:11} joiners that take part: at least {min(parts)} of 10; rounds lost: {lost}; all ten within "
            f"3·n/s = 30 rounds: {sum(wait <= 30 for wait in worst)} of {len(worst)} seeds"
        )
        quick = np.mean(np.array(waits) <= 30)
        yield (
            f"            rounds from joining to first training: mean {np.mean(waits):.1f}, 95 % quantile "
            f"{np.quantile(waits, 0.95):.0f}, worst {max(waits)}; within 30 {100 * quick:.1f} %"
        )
    one = 1 - 0.9**30
    yield f"drawing 10 of 100 anew each round gives {100 * one:.1f} % for each, {100 * one**10:.0f} % for all ten"


def shrink(bench: Bench) -> Iterator[str]:
    """E7."""
    for window in (20, 200):
        for hardening in ("'none'", "['H5']", "'all'"):
            overrides = (
                f"protocol.activity_window={window}",
                f"protocol.hardening={hardening}",
                "stop.rounds=300",
                "evaluate.every=100",
            )
            results = bench.run([Wanted("modest", seed, overrides) for seed in bench.seeds[:3]])
            late = [sum(last > 200 for last in result["last"]) for result in results]
            yield f"window {window:3}, hardening {hardening:7}: {late} of 100 peers trained in rounds 201 to 300"
