"""What does a merge cost? Rules beside the plain average and beside one copy of a model, in one run.

    python tools/bench/merging.py [SECTION ...] [--repetitions 7] [--quick] [--json]

All on one thread. Times are medians over the repetitions; within a repetition the contenders take turns, and ratios are
medians of the ratios within it, so that a busy machine slows all of them alike. A memory copy is
`destination.copy_(model)`: it reads and writes a model once.

Sections:

    variance-corrected  10 models of 25 M parameters, in a few large tensors, and in the tensors of ResNet-18
    peers               the virtual engine: 50 peers, 8 neighbours each, MLP 64-128-128-128-10, merges only
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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
from gossip.merging.base import Merge, MergeContext
from gossip.merging.settings import MERGES
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution
from gossip.settings import Choice
from scenarios.virtual.batched import BatchedLearning
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
        peer="own", seed=0, round=0, space=space, x=nothing, y=nothing, predict=lambda learned, x: x
    )


def merging(rule: Merge, models: Sequence[Tensor], context: MergeContext) -> Callable[[], Tensor]:
    weight = 1 / len(models)
    received = [Contribution(f"p{k}", model, weight) for k, model in enumerate(models[1:])]
    return lambda: rule(models[0], weight, received, context=context)


def variance_corrected(repetitions: int, quick: bool) -> list[Row]:
    rows: list[Row] = []
    parameters = PARAMETERS // 25 if quick else PARAMETERS
    resnet = Task(
        data=DataSettings(),
        model=ModelSettings(name="resnet18-gn"),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    for what, space in (
        (f"{MODELS} models, 3 tensors", ParameterSpace.of(large_tensors(parameters))),
        (f"{MODELS} models, ResNet-18", resnet.space),
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


# --- many small ones -------------------------------------------------------------------------------


def peers(repetitions: int, quick: bool) -> list[Row]:
    """Rounds of merges only: the cost of a merge with its share of the bookkeeping."""
    count, degree, rounds = 50, 8, 4 if quick else 20
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
                        round=round // steps,
                        step=round % steps,
                        last=round % steps == steps - 1,
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


SECTIONS: dict[str, Callable[[int, bool], list[Row]]] = {
    "variance-corrected": variance_corrected,
    "peers": peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=f"of: {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small models: to see that it works")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.section if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; valid: {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    tables = {
        name: SECTIONS[name](options.repetitions, options.quick) for name in options.section or SECTIONS
    }
    if options.json:
        print(json.dumps(tables, indent=1))
        return
    for name, rows in tables.items():
        print(f"\n{name}")
        for row in rows:
            numbers = "".join(
                f"{value:10.2f} {key}" for key, value in row.items() if isinstance(value, float)
            )
            print(f"  {row['what']:36} {row['name']:24}{numbers}")


if __name__ == "__main__":
    main()
