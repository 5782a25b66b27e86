"""What does a merge cost? Rules beside the plain average and beside one copy of a model, in one run.

    python tools/bench/merging.py [SECTION ...] [--repetitions 7] [--json] [--smoke]

All on one thread. Times are medians over the repetitions; within a repetition the contenders take turns, and ratios are
medians of the ratios within it, so that a busy machine slows all of them alike. A memory copy is
`destination.copy_(model)`: it reads and writes a model once.

Sections:

    variance-corrected  10 models of 25 M parameters, in a few large tensors, and in the tensors of resnet18-gn
    average             10 models of 25 M parameters: traffic per second beside a copy's, into old and new memory
    robust              the same models: order statistics beside torch.median, distances beside torch.cdist, whole rules
    robust-peers        the virtual engine: 25 peers, full mesh, merges only
    peers               the virtual engine: 50 peers, 8 neighbours each, MLP 64-128-128-128-10, merges only
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch
from torch import Tensor, nn

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.average import running_mean
from gossip.merging.base import Merge, MergeContext
from gossip.merging.blocks import fresh_like
from gossip.merging.robust.distances import squared_distances
from gossip.merging.robust.order_statistics import by_blocks, mean_around_median, median, trimmed_mean
from gossip.merging.settings import MERGES
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep
from gossip.settings import Choice
from scenarios.virtual.learning.batched import BatchedLearning
from topologies import Topology

Row = dict[str, Any]

PARAMETERS = 25_000_000
MODELS = 10


def choice(**settings: Any) -> Choice:
    return MERGES.validate(settings)


def in_turns(contenders: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each contender, one per repetition; a first round warms caches up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            if repetition:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def rows_of(what: str, seconds: Mapping[str, Sequence[float]], *bases: str) -> list[Row]:
    """Return a row for each contender, with its ratio to each of `bases`."""
    rows = []
    for name, times in seconds.items():
        row: Row = {"what": what, "name": name, "ms": 1e3 * statistics.median(times)}
        for base in bases:
            ratios = [a / b for a, b in zip(times, seconds[base], strict=True)]
            row[f"/ {base}"] = statistics.median(ratios)
        rows.append(row)
    return rows


# --- one merge of large models ---------------------------------------------------------------------


def large_tensors(parameters: int) -> nn.Module:
    """Three square weight matrices and their biases."""
    width = int((parameters / 3) ** 0.5)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(3)))


def context_of(space: ParameterSpace) -> MergeContext:
    nothing = torch.zeros(0)
    return MergeContext(
        peer="own", seed=0, at=GossipStep(0), space=space, x=nothing, y=nothing, predict=lambda learned, x: x
    )


def merging(rule: Merge, models: Sequence[Tensor], context: MergeContext) -> Callable[[], Tensor]:
    weight = 1 / len(models)
    received = [Contribution(f"p{k}", model, weight) for k, model in enumerate(models[1:])]
    return lambda: rule(models[0], weight, received, context=context)


def variance_corrected(repetitions: int, smoke: bool) -> list[Row]:
    rows: list[Row] = []
    parameters = PARAMETERS // 1000 if smoke else PARAMETERS
    name = "mlp" if smoke else "resnet18-gn"
    task = Task(
        data=DataSettings(),
        model=ModelSettings(name=name),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    for what, space in (
        (f"{MODELS} models, 3 tensors", ParameterSpace.of(large_tensors(parameters))),
        (f"{MODELS} models, {name}", task.space),
    ):
        generator = torch.Generator().manual_seed(0)
        models = [0.02 * torch.randn(space.learned_size, generator=generator) for _ in range(MODELS)]
        context, copy = context_of(space), torch.empty(space.learned_size)
        contenders: dict[str, Callable[[], object]] = {
            "copy": lambda copy=copy, one=models[0]: copy.copy_(one)
        }
        for name, settings in (
            ("average", choice(kind="average")),
            ("variance-corrected", choice(kind="variance-corrected", quiet_merges=0)),
            ("… target others", choice(kind="variance-corrected", quiet_merges=0, target="others")),
            ("… median", choice(kind="variance-corrected", quiet_merges=0, over="median")),
        ):
            contenders[name] = merging(settings.load()(settings), models, context)
        rows += rows_of(
            f"{what}, {space.learned_size / 1e6:.1f} M", in_turns(contenders, repetitions), "average", "copy"
        )
    return rows


# --- averages and robust rules ---------------------------------------------------------------------


def normal_models(parameters: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(parameters, generator=generator) for _ in range(MODELS)]


def average(repetitions: int, smoke: bool) -> list[Row]:
    """Bytes read and written per second: an average of k models moves k + 1, a copy two."""
    parameters = PARAMETERS // 1000 if smoke else PARAMETERS
    models = normal_models(parameters)
    context = context_of(ParameterSpace.of(large_tensors(100)))
    out = torch.zeros(parameters)
    shares = [(model, 1 / (k + 2)) for k, model in enumerate(models[1:])]
    seconds = in_turns(
        {
            "copy, old memory": lambda: out.copy_(models[0]),
            "average, old memory": lambda: running_mean(models[0], shares, out),
            "copy, new memory": lambda: fresh_like(models[0]).copy_(models[0]),
            "average, new memory": merging(choice(kind="average").load()(), models, context),
            "clone": lambda: models[0].clone(),
        },
        repetitions,
    )
    rows = rows_of(f"{MODELS} models, {parameters / 1e6:.0f} M", seconds)
    moved = {name: (MODELS + 1 if name.startswith("average") else 2) * 4 * parameters for name in seconds}
    for row in rows:
        name = row["name"]
        row["GB/s"] = moved[name] / row["ms"] / 1e6
        for base in ("copy, old memory", "copy, new memory", "clone"):
            if name.startswith("average"):
                pairs = zip(seconds[name], seconds[base], strict=True)
                row[f"× {base}"] = statistics.median(moved[name] / a / (moved[base] / b) for a, b in pairs)
    return rows


def peak_over_mb(call: Callable[[], object]) -> float:
    """Return how far resident memory rises while `call` runs, its result included; NaN where the system cannot say."""
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
        before = int(status.read_text(encoding="ascii").partition("VmRSS:")[2].split()[0])
        result = call()
        peak = int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
        del result
    except OSError:
        return float("nan")
    return (peak - before) / 1024


def distance_error(stack: Tensor) -> float:
    """Return the largest relative error of our squared distances between rows (n, d)."""
    wide = stack.double()
    exact = torch.stack([(wide - row).square().sum(dim=1) for row in wide])
    ours = torch.from_numpy(squared_distances([row.numpy() for row in stack]))
    off = ~torch.eye(len(stack), dtype=torch.bool)
    return float(((ours - exact).abs()[off] / exact[off]).max())


def robust(repetitions: int, smoke: bool) -> list[Row]:
    parameters = PARAMETERS // 1000 if smoke else PARAMETERS
    what = f"{MODELS} models, {parameters / 1e6:.0f} M"
    models = normal_models(parameters)
    arrays = [model.numpy() for model in models]
    context = context_of(ParameterSpace.of(large_tensors(100)))
    out = torch.zeros(parameters)

    def statistic(function: Callable[..., None]) -> Callable[[], None]:
        return lambda: by_blocks(
            lambda here: [array[here] for array in arrays], function, rows=MODELS, out=out.numpy()
        )

    def whole(kind: str) -> Callable[[], Tensor]:
        settings = choice(kind=kind, f=2)
        return merging(settings.load()(settings), models, context)

    rules = {
        f"rule {kind}": whole(kind)
        for kind in ("median", "trimmed-mean", "krum", "geometric-median", "nna", "nnm+trimmed-mean")
    }
    seconds = in_turns(
        {
            "copy": lambda: out.copy_(models[0]),
            "median": statistic(median),
            "trimmed mean": statistic(functools.partial(trimmed_mean, f=2)),
            "meamed": statistic(functools.partial(mean_around_median, f=2)),
            "Krum distances": lambda: squared_distances(arrays),
            **rules,
        },
        repetitions,
    )
    stack = torch.stack(models)
    slow = in_turns(
        {
            "torch.median": lambda: torch.median(stack, dim=0),
            "torch.cdist": lambda: torch.cdist(stack, stack),
        },
        min(3, repetitions),
    )
    rows = rows_of(what, {**seconds}, "copy") + rows_of(what, slow)
    for row in rows:
        if row["name"] in ("median", "rule median"):
            row["× torch.median"] = 1e3 * statistics.median(slow["torch.median"]) / row["ms"]
        if row["name"] == "Krum distances":
            row["× torch.cdist"] = 1e3 * statistics.median(slow["torch.cdist"]) / row["ms"]
            row["relative error"] = distance_error(stack[:, : 10**6])
            # Models that have much in common and differ by little: a thousand of the difference's length each.
            row["close together"] = distance_error(1000 * stack[0, : 10**6] + 0.7 * stack[:, : 10**6])
        if row["name"] in rules:
            row["MB more"] = peak_over_mb(rules[row["name"]])
    return rows


# --- many small ones -------------------------------------------------------------------------------


def peers(repetitions: int, smoke: bool) -> list[Row]:
    """Rounds of merges only: the cost of a merge with its share of the bookkeeping."""
    count, degree, rounds = (10, 4, 1) if smoke else (50, 8, 20)
    task = Task(
        data=DataSettings(),
        model=ModelSettings(hidden=(128, 128, 128), init="independent"),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    W = Topology("regular", count, degree=degree, seed=0).matrix(0)
    names = [f"peer-{index:02d}" for index in range(count)]
    neighbours = [[j for j in range(count) if j != i and W[i, j]] for i in range(count)]

    def engine(settings: Choice, steps: int) -> Callable[[], None]:
        learning = BatchedLearning(task, names, settings)
        starts = [learning.initial(index) for index in range(count)]

        def go() -> None:
            models = starts
            for round in range(rounds):
                models = [
                    learning.merge(
                        models[i],
                        float(W[i, i]),
                        [Contribution(names[j], models[j], float(W[i, j])) for j in neighbours[i]],
                        peer=i,
                        at=GossipStep(round // steps, step=round % steps, last=round % steps == steps - 1),
                    )
                    for i in range(count)
                ]
            learning.flush()

        return go

    corrected = choice(kind="variance-corrected", quiet_merges=0)
    contenders = {
        "average": engine(choice(kind="average"), 1),
        "variance-corrected": engine(corrected, 1),
        "… after 4 gossip steps": engine(corrected, 4),
        "… off, looking at every 20th": engine(choice(kind="variance-corrected", quiet_scale=1e9), 1),
    }
    rows = rows_of(f"{count} peers, {degree} neighbours", in_turns(contenders, repetitions), "average")
    for row in rows:
        row["us per merge"] = 1e3 * row["ms"] / (rounds * count)
    return rows


def robust_peers(repetitions: int, smoke: bool) -> list[Row]:
    """Rounds of merges only, every peer with all others' models."""
    count, rounds = (6, 1) if smoke else (25, 4)
    rows: list[Row] = []
    for hidden in ((8,),) if smoke else ((96,), (256, 128)):
        task = Task(
            data=DataSettings(),
            model=ModelSettings(hidden=hidden, init="independent"),
            local=LocalSettings(),
            seed=0,
            folder=Path(),
        )
        names = [f"peer-{index:02d}" for index in range(count)]

        def engine(settings: Choice, task: Task = task, names: list[str] = names) -> Callable[[], None]:
            learning = BatchedLearning(task, names, settings)
            models = [learning.initial(index) for index in range(count)]

            def go() -> None:
                for round in range(rounds):
                    for i in range(count):
                        others = [
                            Contribution(names[j], models[j], 1 / count) for j in range(count) if j != i
                        ]
                        learning.merge(models[i], 1 / count, others, peer=i, at=GossipStep(round))
                    learning.flush()

            return go

        contenders = {"average": engine(choice(kind="average"))} | {
            kind: engine(choice(kind=kind, f=count // 5))
            for kind in (
                "median",
                "trimmed-mean",
                "meamed",
                "krum",
                "geometric-median",
                "nna",
                "nnm+trimmed-mean",
            )
        }
        found = rows_of(
            f"{count} peers, {task.space.learned_size} parameters",
            in_turns(contenders, repetitions),
            "average",
        )
        for row in found:
            row["us per merge"] = 1e3 * row["ms"] / (rounds * count)
        rows += found
    return rows


SECTIONS: dict[str, Callable[[int, bool], list[Row]]] = {
    "variance-corrected": variance_corrected,
    "average": average,
    "robust": robust,
    "robust-peers": robust_peers,
    "peers": peers,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=f"of: {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small models, once: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.repetitions = 1
    unknown = [name for name in options.section if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; valid: {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    tables = {
        name: SECTIONS[name](options.repetitions, options.smoke) for name in options.section or SECTIONS
    }
    if options.json:
        print(json.dumps(tables, indent=1))
        return 0
    for name, rows in tables.items():
        print(f"\n{name}")
        for row in rows:
            numbers = "".join(
                f"{value:10.2f} {key}" if value == 0 or value >= 0.005 else f"{value:10.0e} {key}"
                for key, value in row.items()
                if isinstance(value, float)
            )
            print(f"  {row['what']:36} {row['name']:24}{numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
