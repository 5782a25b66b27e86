"""Parts of `vanishing_variance.py`: other protocols than gossip learning, and real nodes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from vanishing_variance_arms import ARMS, LONG, NO_MOMENTUM, PEERS, SHORT, Options
from vanishing_variance_figures import mean_time
from vanishing_variance_runs import UNTIL_S, Wanted, results


def protocols(options: Options) -> dict[str, Any]:
    rounds = {"scenario.algorithm": "d-psgd", "protocol.kind": "rounds"}
    variants = {
        "rounds": rounds,
        "rounds, 2 gossip steps": rounds | {"protocol.gossip_steps": 2},
        "modest": NO_MOMENTUM
        | {"scenario.algorithm": "modest", "protocol.kind": "modest", "protocol.sample_size": 10},
    }
    rows = []
    for variant, settings in variants.items():
        for arm in (LONG, SHORT):
            wanted = [Wanted(seed, ARMS[arm] | settings | {"stop.rounds": 200}) for seed in options.seeds]
            found = results(wanted, options.out, options.jobs)
            lowest = [min(min(point["ratios"]) for point in run["points"]) for run in found]
            rows.append(
                {
                    "variant": variant,
                    "arm": arm,
                    "to 0.8": mean_time(found, 0.8, "accuracy"),
                    "final": fmean(run["points"][-1]["accuracy"] for run in found),
                    "ratio x n": PEERS * fmean(lowest),
                }
            )
    return {"until_s": UNTIL_S, "rows": rows}


def processes(options: Options) -> dict[str, Any]:
    import scenarios

    rows = []
    for arm in (LONG, SHORT):
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                summary = scenarios.run(
                    "vanishing-variance",
                    engine="processes",
                    seed=seed,
                    out=Path(folder) / "run",
                    report=False,
                    overrides=ARMS[arm]
                    | {
                        "scenario.peers": 8,
                        "scenario.algorithm": "d-psgd",
                        "protocol.kind": "rounds",
                        "topology.kind": "full",
                        "topology.degree": None,
                        "stop.rounds": 150,
                        "evaluate.every": 25,
                    },
                ).summary
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "final": summary["accuracy"]["mean"],
                    "min": summary["accuracy"]["min"],
                }
            )
    return {"rows": rows}
