"""Parts of `vanishing_variance.py`: how long it takes by number of peers and by depth."""

from __future__ import annotations

from typing import Any

from vanishing_variance_arms import ARMS, LONG, PEERS, SHORT, Options
from vanishing_variance_figures import mean_time, time_to
from vanishing_variance_runs import Wanted, results


def delays(options: Options, variants: dict[str, dict[str, Any]], until_s: float) -> dict[str, Any]:
    """Return the seconds until 0.5 of plain and corrected averages, for each variant."""
    runs = {
        (variant, arm): [
            Wanted(
                seed,
                ARMS[arm] | settings | {"stop.rounds": int(until_s / 5)},
                until_s=until_s,
                every_s=25.0 if arm == SHORT else 50.0,
                stop_at=0.5,
            )
            for seed in options.seeds
        ]
        for variant, settings in variants.items()
        for arm in (LONG, SHORT)
    }
    flat = results([run for group in runs.values() for run in group], options.out, options.jobs)
    count = len(options.seeds)
    rows = []
    for place, (variant, arm) in enumerate(runs):
        found = flat[place * count : (place + 1) * count]
        rows.append(
            {
                "variant": variant,
                "arm": arm,
                "times": [time_to(run, 0.5) for run in found],
                "to 0.5": mean_time(found, 0.5),
            }
        )
    flat_times = [row["to 0.5"] for row in rows if row["arm"] == SHORT]
    return {
        "until_s": until_s,
        "rows": rows,
        "corrected, longest / shortest": max(flat_times) / min(flat_times)
        if None not in flat_times
        else None,
    }


def sizes(options: Options) -> dict[str, Any]:
    return delays(
        options,
        {
            f"{n} peers": {"model.hidden": [128, 128]} | ({} if n == PEERS else {"scenario.peers": n})
            for n in (10, 20, PEERS)
        },
        until_s=10_000.0,
    )


def depths(options: Options) -> dict[str, Any]:
    return delays(options, {f"{d} hidden": {"model.hidden": [128] * d} for d in (1, 2, 3)}, until_s=10_000.0)
