"""Independent starts: plain averages lose their variance and learn nothing, corrected ones learn as if begun together.

    python tools/reproduce/vanishing_variance.py [curves dirichlet sizes depths protocols processes late plot]
                                                 [--seeds 0-2] [--jobs 2] [--out runs/vanishing-variance]
                                                 [--json] [--smoke]

The scenario `vanishing-variance` (digits, 50 peers on an 8-regular graph, MLP 64-128-128-128-10, one SGD step of 32
samples with learning rate 0.01 and momentum 0.9 in each period of 8 to 12 seconds, β = 0.5) in the virtual engine; time
is counted in virtual seconds, ten to an own update. Without names all parts are done; finished runs are not done again.

curves     gossip learning from independent and common starts, plain and corrected, and FedAvg with all peers; some also
           without momentum at ten times the learning rate. Seconds until 0.5, 0.8 and 0.9 are reached by the mean
           accuracy of the peers' own models, each right after a local update, and until 0.8 by the average of these
           models; the lowest variances of the weight tensors beside the starts', least and largest. (Whoever compares
           peers' own models with FedAvg's average compares two moments of a round: where peers' data differ, the
           average is far ahead of what went into it.)
dirichlet  the same where each peer draws its samples by class proportions of its own, from Dirichlet 0.5
sizes      seconds until 0.5 for 10, 20 and 50 peers, two hidden layers
depths     seconds until 0.5 for one, two and three hidden layers, 50 peers
protocols  rounds (one step and two gossip steps) and MoDeST, from independent starts; rounds have a doubly stochastic W
processes  eight real nodes over TLS, rounds on the full graph, from independent starts
late       a peer with a fresh model joins: its accuracy after five periods, and the largest loss of any other peer
plot       curves, variances and delays from the runs that are there, as OUT/vanishing-variance.png
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from scenarios.sweep import parse_seeds

CODE = 3
"""Raised with every change by which runs come out otherwise: results of older code are not taken for new ones."""
PERIOD_S = 10.0
PEERS, DEGREE = 50, 8
UNTIL_S = 2000.0
TARGETS = (0.5, 0.8, 0.9)

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
class Wanted:
    """One run in the virtual engine."""

    seed: int
    overrides: dict[str, Any] = field(default_factory=dict)
    until_s: float = UNTIL_S
    every_s: float = 25.0
    stop_at: float | None = None
    """Mean accuracy that ends the run."""
    scenario: str = "vanishing-variance"
    by_peer: bool = False
    """Note every peer's accuracy, not only the mean."""

    @property
    def name(self) -> str:
        said = json.dumps([CODE, asdict(self)], sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


# --- one run ---------------------------------------------------------------------------------------


def carried_out(wanted: Wanted) -> dict[str, Any]:
    """Do a run and return its curve; in a process of its own, on one thread."""
    import torch

    from scenarios.processes.averages import load_task
    from scenarios.scenario import load
    from scenarios.virtual.quiet import quiet_collector

    torch.set_num_threads(1)
    began = time.monotonic()
    settings = load(wanted.scenario, seed=wanted.seed, values=wanted.overrides)
    with quiet_collector():
        watch = Watch(settings, load_task(settings), wanted)
        watch.by_time() if settings.protocol.kind == "push" else watch.by_round()
    return {"points": watch.points, "seconds": time.monotonic() - began, "wanted": asdict(wanted)}


class Watch:
    """Looks at all living peers' models every so often, or at a round's models when all have done it."""

    def __init__(self, settings: Any, task: Any, wanted: Wanted) -> None:
        import torch

        from scenarios.virtual.engine import VirtualRun

        self._wanted = wanted
        self._settings = settings
        self._task = task
        self.points: list[dict[str, Any]] = []
        self._weights = [slot for slot in task.space.slots if len(slot.shape) >= 2]
        starts = torch.stack([task.initial_of(name) for name in settings.peer_names])
        self._start_variances = self._variances(starts)
        self._rounds: dict[int, list[tuple[Any, Any]]] = {}
        self._alone = settings.protocol.kind in ("fedavg", "modest")
        self._run = VirtualRun(settings, task, measure=self)
        self._over = False

    def by_time(self) -> None:
        simulation, number = self._run.simulation, 0
        simulation.start()
        while number * self._wanted.every_s < self._wanted.until_s and not self._over:
            number += 1
            simulation.run(until_s=number * self._wanted.every_s)
            there = [peer for peer in simulation.peers if peer.alive and peer.checkpoint is not None]
            if there:
                self._look(
                    number * self._wanted.every_s,
                    [peer.checkpoint[1] for peer in there if peer.checkpoint],
                    [peer.trained for peer in there],
                    [peer.peer for peer in there],
                )

    def by_round(self) -> None:
        simulation = self._run.simulation
        simulation.start()
        while not self._over and simulation.run(events_max=1000):
            pass

    def round_completed(self, peer: Any, event: Any, now_s: float) -> bool:
        """Look at a round's models: all peers', or the one that an aggregator made."""
        every = max(1, round(self._wanted.every_s / PERIOD_S))
        if self._settings.protocol.kind == "push" or event.round % every:
            return False
        models = self._rounds.setdefault(event.round, [])
        models.append((event.model, peer.trained))
        if len(models) == (1 if self._alone else len(self._settings.peer_names)):
            held = [model for model, _ in models]
            trained = [model for _, model in self._rounds.pop(event.round)]
            if self._alone:
                clients = [each.trained for each in self._run.simulation.peers]
                trained = [model for model in clients if model is not None]
            self._look(event.round * PERIOD_S, held, trained, [])
            if event.round * PERIOD_S >= self._wanted.until_s:
                self._over = True
        return False

    def _look(self, time_s: float, held: list[Any], trained: list[Any], names: list[str]) -> None:
        """Note the accuracy of the models that peers hold, of those they have just trained, and of these' average."""
        learning = self._run.learning
        accuracies = [each.score for each in learning.evaluate(held)]
        ratios = self._variances(learning.stack(held)) / self._start_variances
        average = learning.stack(trained).double().mean(0).float()
        point = {
            "time": time_s,
            "accuracy": fmean(accuracies),
            "own": fmean(each.score for each in learning.evaluate(trained)),
            "average": self._task.evaluate(average).score,
            "ratios": ratios.tolist(),
        }
        if self._wanted.by_peer:
            point["peers"] = dict(zip(names, accuracies, strict=True))
        self.points.append(point)
        if self._wanted.stop_at is not None and point["accuracy"] >= self._wanted.stop_at:
            self._over = True

    def _variances(self, models: Any) -> Any:
        """Return the mean over the models of each weight tensor's variance."""
        import torch

        return torch.stack(
            [models[:, slot.offset : slot.end].double().var(1).mean() for slot in self._weights]
        )


def results(runs: Sequence[Wanted], out: Path, jobs: int) -> list[dict[str, Any]]:
    """Return what the runs found; those that were done before are read. Without jobs one after another, here."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{run.name}.json" for run in runs]
    todo = [(run, file) for run, file in zip(runs, files, strict=True) if not file.exists()]
    if not jobs:
        for run, file in todo:
            file.write_text(json.dumps(carried_out(run)))
    elif todo:
        with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn")) as pool:
            for (_, file), found in zip(todo, pool.map(carried_out, [run for run, _ in todo]), strict=True):
                file.write_text(json.dumps(found))
    return [json.loads(file.read_text()) for file in files]


# --- what is read off ------------------------------------------------------------------------------


def time_to(found: dict[str, Any], target: float, of: str = "own") -> float | None:
    """Return when the accuracy `of` some models reached `target`, between two looks along a straight line."""
    before = {"time": 0.0, of: 0.0}
    for point in found["points"]:
        if point[of] >= target:
            share = (target - before[of]) / (point[of] - before[of])
            return float(before["time"] + share * (point["time"] - before["time"]))
        before = point
    return None


def mean_time(founds: Sequence[dict[str, Any]], target: float, of: str = "own") -> float | None:
    times = [time_to(found, target, of) for found in founds]
    return fmean(time for time in times if time is not None) if None not in times else None


def accuracy_at(found: dict[str, Any], time_s: float) -> float:
    return float(min(found["points"], key=lambda point: abs(point["time"] - time_s))["own"])


def shown(value: float | None, limit_s: float) -> str:
    return f"> {limit_s:.0f}" if value is None else f"{value:.0f}"


# --- parts -----------------------------------------------------------------------------------------

Part = Callable[["Options"], dict[str, Any]]


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


# --- the picture -----------------------------------------------------------------------------------

COLOURS = dict(
    zip(ARMS, ("#c0392b", "#1f77b4", "#555555", "#17a589", "#8e44ad", "#76b7e5", "#e59866"), strict=True)
)
STYLES = dict(zip(ARMS, ("-", "-", "-", "--", "--", "-", "--"), strict=True))


def plot(options: Options) -> dict[str, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, more, title in (
        (axes[0, 0], {}, "all peers draw from all samples"),
        (axes[0, 1], DIRICHLET, "Dirichlet 0.5"),
    ):
        for name, runs in arms(options, more).items():
            for number, run in enumerate(runs):
                axis.plot(
                    [point["time"] for point in run["points"]],
                    [point["own"] for point in run["points"]],
                    STYLES[name],
                    color=COLOURS[name],
                    alpha=0.8,
                    linewidth=1.2,
                    label=None if number else name,
                )
        axis.set(
            title=f"{PEERS} peers, {title}",
            xlabel="virtual seconds",
            ylabel="mean accuracy of own models",
            ylim=(0, 1),
        )
        axis.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.13))
    variances(axes[1, 0], arms(options, {}))
    bars(axes[1, 1], [sizes(options), depths(options)])
    file = options.out / "vanishing-variance.png"
    figure.savefig(file, dpi=110)
    return {"file": str(file)}


def variances(axis: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    for name in (LONG, SHORT, "common, plain"):
        for number, run in enumerate(found[name]):
            for layer in range(4):
                axis.plot(
                    [0.0, *(point["time"] for point in run["points"])],
                    [1.0, *(point["ratios"][layer] for point in run["points"])],
                    STYLES[name],
                    color=COLOURS[name],
                    alpha=0.5,
                    linewidth=0.9,
                    label=None if number or layer else name,
                )
    axis.axhline(1 / PEERS, color="black", linewidth=0.8, linestyle="--")
    axis.text(1990, 0.93 / PEERS, "1 / n", ha="right", va="top", fontsize=8)
    axis.set(
        yscale="log",
        title="variance of each weight tensor, beside the starts'",
        xlabel="virtual seconds",
        ylabel="ratio, mean of all peers",
    )
    axis.legend(fontsize=8, loc="center right")


def bars(axis: Any, tables: Sequence[dict[str, Any]]) -> None:
    labels, limit = [], tables[0]["until_s"]
    for table in tables:
        for row in table["rows"]:
            if row["variant"] not in labels:
                labels.append(row["variant"])
            place = labels.index(row["variant"]) + (-0.2 if row["arm"] == LONG else 0.2)
            value = row["to 0.5"]
            axis.bar(
                place,
                limit if value is None else value,
                0.38,
                color=COLOURS[row["arm"]],
                hatch="//" if value is None else None,
                alpha=0.85,
            )
            axis.text(
                place,
                limit if value is None else value,
                shown(value, limit),
                ha="center",
                va="bottom",
                fontsize=8,
            )
    axis.set(yscale="log", title="until 0.5, from independent starts", ylabel="virtual seconds")
    axis.set_ylim(100, 2 * limit)
    axis.set_xticks(range(len(labels)), labels, fontsize=8)
    for arm in (LONG, SHORT):
        axis.bar(0, 0, color=COLOURS[arm], label=arm)
    axis.legend(fontsize=8, loc="upper left")


# --- the tables ------------------------------------------------------------------------------------

PARTS: dict[str, Part] = {
    "curves": curves,
    "dirichlet": dirichlet,
    "sizes": sizes,
    "depths": depths,
    "protocols": protocols,
    "processes": processes,
    "late": late,
    "plot": plot,
}


def show(name: str, table: dict[str, Any]) -> None:
    print(f"\n{name}")
    limit = table.get("until_s", 0.0)
    for row in table.get("rows", []):
        cells = []
        for key, value in row.items():
            if isinstance(value, str):
                cells.append(f"{value:32}")
            elif "to 0." in key and not isinstance(value, list):
                cells.append(f"{key} {shown(value, limit):>7}")
            elif isinstance(value, list):
                cells.append(f"{key} " + ", ".join("-" if each is None else f"{each:.4g}" for each in value))
            else:
                cells.append(f"{key} {value:.4g}")
        print("  " + "   ".join(cells))
    for key, value in table.items():
        if key not in ("rows", "until_s"):
            print(f"  {key}: {value}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help="default: all")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/vanishing-variance"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="one part, ten peers, 25 s: to see that it works"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; valid: {', '.join(PARTS)}")
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            tell(
                {"curves": curves(Options([0], 0, Path(folder), until_s=25.0, peers=10))},
                as_json=options.json,
            )
        return 0
    chosen = Options(parse_seeds(options.seeds), options.jobs, options.out)
    for name in options.part or PARTS:
        tell({name: PARTS[name](chosen)}, as_json=options.json)
    return 0


def tell(tables: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(tables))
        return
    for name, table in tables.items():
        show(name, table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
