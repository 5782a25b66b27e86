"""What does a node's local step cost beside a plain torch loop? One model at a time, in one run.

    python tools/bench/local_step.py [--models mlp,cnn,lenet-gn,resnet18-gn] [--variants sgd,momentum,sam,adamw]
                                     [--batch 8] [--steps N] [--repetitions 5] [--json] [--smoke]

Random images of 3×32×32 in 10 classes, of 1×8×8 for `mlp`; one thread. The smaller the mini-batch, the larger the
share of the step that is not the network's: what it does to vectors of the model's size.

    plain    torch.nn, torch.optim, `zero_grad`, `backward`, `step`; with SAM the usual two passes
    node     `LocalTraining.run` as nodes call it: the model as one vector, steps that are not finite undone

`plain / node` is 1 where a node's step costs as much as the plain one, less where it costs more: the median of pairs
that are measured in turn.
"""

from __future__ import annotations

import argparse
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
from learning import climb, climb_back
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossip.learning.forward import Forward
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.local_training import LocalTraining
from gossip.learning.models import build
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.parameters import ParameterSpace

LR = 0.01
SHAPES: Mapping[str, tuple[int, ...]] = {"mlp": (1, 8, 8)}
SHAPE, CLASSES = (3, 32, 32), 10
"""Of the other networks' samples, and of all labels."""
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"sam_rho": 0.05},
    "adamw": {"optimizer": {"kind": "adamw", "keep_moments": True}},
}
STEPS: Mapping[str, int] = {"mlp": 100, "cnn": 20, "lenet-gn": 20, "resnet18-gn": 3}


def shape_of(model: str) -> tuple[int, ...]:
    """Return that of a sample."""
    return SHAPES.get(model, SHAPE)


def plain(model: str, variant: str, x: Tensor, y: Tensor, batch: int) -> Callable[[], None]:
    """Return a function that does a step on each mini-batch."""
    module = build(ModelSettings(name=model), shape_of(model), CLASSES, seed=0, folder=Path())
    module.train()
    own = list(module.parameters())
    optimiser: torch.optim.Optimizer
    if variant == "adamw":
        optimiser = torch.optim.AdamW(own, lr=LR, weight_decay=0.0)
    else:
        optimiser = torch.optim.SGD(own, lr=LR, momentum=VARIANTS[variant].get("momentum", 0.0))
    rho = VARIANTS[variant].get("sam_rho", 0.0)

    def run() -> None:
        for x_batch, y_batch in zip(x.split(batch), y.split(batch), strict=True):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(module(x_batch), y_batch))
            if rho:
                moved = climb(own, rho)
                torch.autograd.backward(cross_entropy(module(x_batch), y_batch))
                climb_back(own, moved)
            optimiser.step()

    return run


def node(model: str, variant: str, x: Tensor, y: Tensor, batch: int) -> Callable[[], None]:
    """Return a function that does a local update of as many steps."""
    module: nn.Module = build(ModelSettings(name=model), shape_of(model), CLASSES, seed=0, folder=Path())
    space = ParameterSpace.of(module)
    settings = LocalSettings(lr=LR, batch_size=batch, epochs=1, **VARIANTS[variant])
    training = LocalTraining(Forward(module, space), settings, by_hand=LinearGradient.of(module, space))
    vector, rows, rounds = space.flatten_module(module), training.rows(), 0

    def run() -> None:
        nonlocal vector, rows, rounds
        done = training.run(vector, x, y, seed=0, peer="a", round=rounds, rows=rows, in_place=True)
        vector, rows, rounds = done.model, done.rows, rounds + 1

    return run


def compare(model: str, variant: str, *, batch: int, steps: int, repetitions: int) -> dict[str, Any]:
    """Return the row of one network and one way to learn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps * batch, *shape_of(model), generator=generator)
    y = torch.randint(0, CLASSES, (steps * batch,), generator=generator)
    runs = {"plain": plain(model, variant, x, y, batch), "node": node(model, variant, x, y, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if repetition:  # the first warms caches up
                seconds[name].append(time.process_time() - began)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["node"], strict=True)]
    return {
        "model": model,
        "variant": variant,
        **{f"{name} ms": round(1e3 * statistics.median(each) / steps, 2) for name, each in seconds.items()},
        "plain / node": round(statistics.median(ratios), 2),
        "from": round(min(ratios), 2),
        "to": round(max(ratios), 2),
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(STEPS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of each local update; default: as the model's size allows")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one small network: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.models, options.steps, options.repetitions = "cnn", 1, 1
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for model in options.models.split(","):
        for variant in options.variants.split(","):
            steps = options.steps or STEPS[model]
            rows.append(
                compare(model, variant, batch=options.batch, steps=steps, repetitions=options.repetitions)
            )
            if not options.json:
                print(" · ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
