"""Sections of `merging.py`: one merge of large models."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from merging_turns import Row, choice, in_turns, rows_of
from torch import Tensor, nn

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.average import running_mean
from gossip.merging.base import Merge, MergeContext
from gossip.merging.blocks import fresh_like
from gossip.merging.robust.distances import squared_distances
from gossip.merging.robust.order_statistics import by_blocks, mean_around_median, median, trimmed_mean
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep

PARAMETERS = 25_000_000
MODELS = 10


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
