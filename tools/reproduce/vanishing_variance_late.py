"""A part of `vanishing_variance.py`: a peer with a fresh model joins those that have learned."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from vanishing_variance_arms import ARMS, PEERS, SHORT, Options
from vanishing_variance_runs import PERIOD_S, Wanted, results


def late(options: Options) -> dict[str, Any]:
    """Let the last peer join when the others have learned; compare the five periods before and after.

    Accuracies go up and down without any joiner, too: the last rows are the control.
    """
    at_s, five_s = 1500.0, 5 * PERIOD_S
    rows = []
    for name, scenario, joins_s, settings in (
        ("late-joiner", "late-joiner", 400.0, {}),
        (
            "50 peers, corrected, independent",
            "vanishing-variance",
            at_s,
            ARMS[SHORT] | {"faults.list": [{"at": at_s, "do": "join", "peers": [PEERS - 1]}]},
        ),
        (
            "the same, and nobody joins",
            "vanishing-variance",
            at_s,
            ARMS[SHORT] | {"faults.list": [{"at": 10 * at_s, "do": "join", "peers": [PEERS - 1]}]},
        ),
    ):
        wanted = [
            Wanted(
                seed,
                settings,
                until_s=joins_s + five_s,
                every_s=PERIOD_S,
                scenario=scenario,
                by_peer=True,
            )
            for seed in options.seeds
        ]
        for seed, found in zip(options.seeds, results(wanted, options.out, options.jobs), strict=True):
            rows.append({"scenario": name, "seed": seed, **joined(found, joins_s, five_s)})
    return {"rows": rows}


def joined(found: dict[str, Any], at_s: float, window_s: float) -> dict[str, float]:
    before = [p["peers"] for p in found["points"] if at_s - window_s < p["time"] <= at_s]
    after = [p["peers"] for p in found["points"] if at_s < p["time"] <= at_s + window_s]
    newcomers = set(after[-1]) - set(before[-1])
    others = sorted(before[-1])
    return {
        "group": fmean(fmean(point[peer] for peer in others) for point in after),
        "joiner": max((point.get(peer, 0.0) for point in after for peer in newcomers), default=float("nan")),
        "largest loss": max(
            fmean(point[peer] for point in before) - fmean(point[peer] for point in after) for peer in others
        ),
    }
