"""Kinds of networks that people bring: does a local update of each do what plain torch does?

    python tools/reproduce/own_modules.py [KIND ...] [--json] [--smoke]

Every function of `MODULES` makes one kind. Three steps with momentum on a node's path are held against a loop of plain
torch over the same mini-batches and seeds, and one step of the virtual engine's (stacked, where it takes the network
so) against the node's. A kind is equal to 1e-5 of the largest change, or refused before the run in one sentence.
Parameters that are not float32 are compared with plain steps on float32 copies of them, as mixed precision is done."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import own_modules_hooks
import own_modules_images
import own_modules_layers
import own_modules_oddities
import own_modules_passes
import own_modules_samples
import own_modules_sequences
import own_modules_tokens
import own_modules_weights
import torch
from torch import Tensor
from torch.nn import functional

EQUAL = 1e-5
STEPS = 3

MODULES = (
    own_modules_layers,
    own_modules_weights,
    own_modules_hooks,
    own_modules_passes,
    own_modules_oddities,
    own_modules_images,
    own_modules_sequences,
    own_modules_tokens,
)
"""Where the functions are."""


class Kind(NamedTuple):
    """The functions that make a kind and its samples, as settings name them."""

    model: str
    samples: str


def _setting(module: ModuleType, function: str) -> str:
    return f"python:{Path(str(module.__file__)).resolve()}:{function}"


KINDS: Mapping[str, Kind] = {
    name: Kind(_setting(module, name), _setting(own_modules_samples, samples))
    for module in MODULES
    for name, samples in module.KINDS.items()
}


class Outcome(NamedTuple):
    """What became of one kind."""

    kind: str
    refused: str | None
    """The sentence, or None."""
    error: float
    """Of the node's path, as a share of the largest change."""
    stacked: str
    """How the virtual engine trains it: linear-stack, vmap or loop."""
    stacked_error: float
    cautions: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it is equal, or refused."""
        return self.refused is not None or (self.error <= EQUAL and self.stacked_error <= 10 * EQUAL)


def compare(kind: str) -> Outcome:
    """Train one kind both ways."""
    from gossip.errors import UserError
    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings, OwnPartition
    from gossip.learning.task import Task

    task = Task(
        data=DataSettings(source=KINDS[kind].samples, partition=OwnPartition()),
        model=ModelSettings(name=KINDS[kind].model),
        local=LocalSettings(lr=0.1, momentum=0.9, batch_size=8, steps=STEPS),
        seed=1,
        folder=Path(__file__).resolve().parent,
    )
    try:
        task.check()
        x, y = task.x_train, task.dataset.y_train
        start = task.initial()
        ours = task.local_training().run(start.clone(), x, y, seed=1, peer="a", round=0).model
    except UserError as error:
        return Outcome(kind, str(error), 0.0, "", 0.0, ())
    wanted = _plain(task, x, y)
    split = task.space.trained_size
    error = max(_error(ours[part], wanted[part], start[part]) for part in (slice(split), slice(split, None)))
    return Outcome(kind, None, error, *_stacked(task, x, y), task.cautions)


def _plain(task: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the model [P] after the same steps by a loop of plain torch."""
    from gossip import seeding
    from gossip.learning import batches, models, user_code

    local = task.local_settings
    module = models.build(
        task.model_settings,
        task.taken_shape,
        task.dataset.classes,
        seed=seeding.integer_seed(task.seed, "init"),
        folder=task.folder,
    ).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    copies = [p.detach().float().clone() for p in parameters]
    optimizer = torch.optim.SGD(copies, lr=local.lr, momentum=local.momentum)
    first = seeding.integer_seed(1, "dropout", peer="a", round=0)
    step = 0
    for epoch in batches.epochs(len(y), local, seed=1, peer="a", round=0, batch_min=task.batch_min):
        for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
            with user_code.seeded_globals((first + step) % 2**63):
                functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
            for parameter, copy in zip(parameters, copies, strict=True):
                if parameter.dtype is torch.float32:
                    copy.copy_(parameter.detach())  # a pass may have changed it
                copy.grad = torch.zeros_like(copy) if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
            optimizer.step()
            with torch.no_grad():
                for parameter, copy in zip(parameters, copies, strict=True):
                    parameter.copy_(copy)
            step += 1
    vector: Tensor = task.space.flatten_module(module)
    held = iter(copies)
    wide = {id(p): copy for p, copy in zip(parameters, held, strict=True)}
    named = dict(module.named_parameters())
    for slot in task.space.slots:
        if slot.name in named and id(named[slot.name]) in wide:
            vector[slot.offset : slot.end] = wide[id(named[slot.name])].reshape(-1)
    return vector


def _stacked(task: Any, x: Tensor, y: Tensor) -> tuple[str, float]:
    """Return how the virtual engine trains the network, and how far one of its steps is from the node's."""
    from scenarios.virtual.learning.linear_stack import LinearStack
    from scenarios.virtual.learning.methods import choose

    method = choose(task, "auto", device=torch.device("cpu"), batch_size=8).method
    if method == "loop":
        return method, 0.0
    training = task.local_training()
    training.forward.module.train()
    models = torch.stack([task.initial(), 0.9 * task.initial()])
    lr = torch.tensor(0.1)
    stack = LinearStack.of(task.module, task.space) if method == "linear-stack" else None
    together = training.step_stacked(
        training.start(models),
        x[:8].expand(2, 8, *x.shape[1:]),
        y[:8].expand(2, 8),
        lr.expand(2),
        gradient=None if stack is None else stack.gradient,
    ).state.trained
    alone = torch.stack(
        [training.step(training.start(model), x[:8], y[:8], lr).state.trained for model in models]
    )
    return method, _error(together, alone, models[:, : alone.shape[1]])


def _error(ours: Tensor, wanted: Tensor, before: Tensor) -> float:
    """Return the largest difference as a share of the largest change."""
    if not wanted.numel() or torch.equal(ours, wanted):
        return 0.0
    return float((ours - wanted).abs().max() / (wanted - before).abs().max())


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="four kinds: to see that it works")
    options = parser.parse_args(arguments)
    kinds = options.kinds or list(KINDS)
    if options.smoke:
        kinds = ["linear", "checkpointed", "embedding", "torchscript"]
    outcomes = [compare(kind) for kind in kinds]
    if options.json:
        print(json.dumps([outcome._asdict() for outcome in outcomes], indent=1))
    else:
        for each in outcomes:
            told = each.refused or f"{each.error:.1e}  {each.stacked:12} {each.stacked_error:.1e}"
            print(f"{'ok ' if each.holds else 'NOT'} {each.kind:36} {told}", *each.cautions)
        refused = sum(each.refused is not None for each in outcomes)
        print(f"{len(outcomes)} kinds: {len(outcomes) - refused} as in plain torch, {refused} refused")
    return 0 if all(each.holds for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
