"""Parts of `vanishing_variance.py`: all arms, where peers draw from all samples and by proportions of their own."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from vanishing_variance_arms import DIRICHLET, LONG, PEERS, SHORT, Options, arms
from vanishing_variance_figures import accuracy_at, mean_time, time_to

TARGETS = (0.5, 0.8, 0.9)


def curves(options: Options, more: dict[str, Any] | None = None) -> dict[str, Any]:
    found = arms(options, more or {})
    rows = []
    for name, runs in found.items():
        lowest = [min(min(point["ratios"]) for point in run["points"]) for run in runs]
        highest = [
            max(min(point["ratios"][layer] for point in run["points"]) for layer in range(4)) for run in runs
        ]
        rows.append(
            {
                "arm": name,
                **{f"to {target}": mean_time(runs, target) for target in TARGETS},
                "each to 0.8": [time_to(run, 0.8) for run in runs],
                "average to 0.8": mean_time(runs, 0.8, "average"),
                "final": fmean(run["points"][-1]["own"] for run in runs),
                "finals": [run["points"][-1]["own"] for run in runs],
                "ratio x n": [PEERS * min(lowest), PEERS * max(highest)],
            }
        )
    by_name = {row["arm"]: row for row in rows}
    passed = [time_to(run, 0.9) for run in found[SHORT]]
    plain = [
        accuracy_at(run, at) if at is not None else None for run, at in zip(found[LONG], passed, strict=True)
    ]
    differences = [
        a - b
        for a, b in zip(
            by_name["common, corrected"]["finals"], by_name["common, plain"]["finals"], strict=True
        )
    ]

    def relative(reference: str, arm: str = SHORT) -> dict[str, float | None]:
        times = {key: (by_name[arm][key], by_name[reference][key]) for key in ("to 0.8", "average to 0.8")}
        return {
            key: mine / other - 1 if mine is not None and other is not None else None
            for key, (mine, other) in times.items()
        }

    return {
        "until_s": options.until_s,
        "rows": rows,
        "plain when corrected passes 0.9": plain,
        "corrected beside a common start": relative("common, plain"),
        "corrected beside fedavg": relative("fedavg"),
        "both without momentum": relative("fedavg, no momentum", f"{SHORT}, no momentum"),
        "common start, corrected - plain": differences,
    }


def dirichlet(options: Options) -> dict[str, Any]:
    return curves(options, DIRICHLET)
