"""How local updates of many peers are computed: by hand, under vmap, or one after another; chosen for a network."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gossip.errors import SettingError, nearest
from gossip.learning import user_code
from gossip.learning.data.mapped import Mapped
from gossip.learning.task import Task
from scenarios.virtual.learning.devices import chunk_peers
from scenarios.virtual.learning.linear_stack import LinearStack

METHODS = ("auto", "linear-stack", "vmap", "loop")

MULTIPLICATIONS_MAX = 10_000_000
"""Of all convolutions in one step of one model, up to which stacks are the faster on a CPU. Measured with the networks
cnn and lenet-gn, samples of 8×8 to 3×32×32 and mini-batches of 8 and 32, stacks of 12 to 100: 5 to 2 times as fast as
plain torch at 0.7 M to 2.7 M, 1.5 to 1.0 times at 8 M, as fast at 13 M, and slower above."""

STACK_MULTIPLICATIONS = 25_000_000
STACK_MIN = 12
"""A stack of convolutions is cut so that a step of it has so many multiplications, or models: much more does not make
it faster, and parts are what several processes can share."""

SLOW = "There is a performance drop because we have not yet implemented"
"""What torch says of an operator that vmap computes one by one."""

PASSES = 3
"""A forward pass, and two as long backward: one to the weights, one to the inputs."""

EVALUATING = 0.2
"""What a multiplication of an evaluation takes, in terms of a step's: of hundreds of samples they go faster."""

AGREEMENT = 1e-3
"""Largest difference between a step under vmap and alone, in terms of the step's largest entry; kernels for stacks add
up in another order. What a hook does, or what is read from a value, may get lost under vmap without a word."""

OTHER_WEIGHTS = 0.9
"""Of the second model of that comparison, as a share of the first's."""


class Choice(NamedTuple):
    """How local updates are computed, and why so."""

    method: str
    """``linear-stack``, ``vmap`` or ``loop``."""
    reason: str


def work(task: Task, samples: int, evaluated: int = 0) -> float:
    """Return roughly how many multiplications a run takes.

    Args:
        task: network and rounds.
        samples: that all peers together learn from in a round.
        evaluated: at most so many samples models are evaluated on in the whole run, all of them together.
    """
    passes = PASSES * (task.rounds or 1) * samples + EVALUATING * evaluated
    return passes * max(multiplications(task), task.space.trained_size)


def choose(task: Task, wanted: str, *, device: torch.device, batch_size: int) -> Choice:
    """Return how to train: as `wanted`, or for ``auto`` what suits the network with mini-batches of `batch_size`.

    Raises:
        SettingError: `wanted` is unknown, or the network cannot be trained so.
    """
    if wanted not in METHODS:
        raise SettingError(f"[virtual] method = '{wanted}' is unknown; {nearest(wanted, METHODS)}")
    if wanted == "loop":
        return Choice("loop", "as set")
    if isinstance(task.dataset.x_train, Mapped):
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': the samples are mapped, and a stack's are in memory; "
                '[virtual] method = "loop" reads them as they are needed, and [data] mapped = false reads them all now'
            )
        return Choice("loop", "the samples are mapped")
    if task.draws:
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': the network draws random numbers, which each peer does alone; "
                "valid: auto, loop"
            )
        return Choice("loop", "the network draws random numbers")
    if not task.local_training(device).passes.plain:
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': [local] precision, micro_batch and compile are each peer's alone; "
                "valid: auto, loop"
            )
        return Choice("loop", "half precision, mini-batches in parts, or a compiled network")
    if wanted == "vmap":
        return Choice("vmap", "as set")
    if task.objective.plain and LinearStack.of(task.module, task.space) is not None:
        return Choice("linear-stack", "linear layers and ReLU only" if wanted == "auto" else "as set")
    if wanted == "linear-stack":
        raise SettingError(
            "[virtual] method = 'linear-stack': the network is not made of linear layers and ReLU alone, or the loss "
            "is not plain cross-entropy; valid: auto, vmap, loop"
        )
    return _tried(task, device, batch_size)


def _tried(task: Task, device: torch.device, batch_size: int) -> Choice:
    """Choose between vmap and loop by what the network is, and by what two steps of it come to; never by a clock."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            agrees = _agrees(task, device, batch_size)
    except (Exception, SystemExit) as failure:
        # Foreign code may do what vmap cannot: branch on a value, call .item(), and so on.
        return Choice("loop", f"vmap cannot run the network: {user_code.one_line(failure)}")
    slow = False
    for warning in said:
        slow = slow or SLOW in str(warning.message)
        if SLOW not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if not agrees:
        return Choice("loop", "vmap makes something else of the network's step")
    if device.type != "cpu":
        return Choice("vmap", f"on {device.type}")
    count = batch_size * multiplications(task)
    if not count:
        return Choice("vmap", "no convolutions")
    if slow:
        return Choice("loop", "vmap computes some of the network's operators one by one")
    method = "vmap" if count <= MULTIPLICATIONS_MAX else "loop"
    limit = f"stacks are the faster up to {MULTIPLICATIONS_MAX / 1e6:.0f} M"
    return Choice(method, f"convolutions on the CPU, {count / 1e6:.1f} M multiplications per step; {limit}")


def stack_size(task: Task, method: str, *, device: torch.device, batch_size: int, peers: int) -> int:
    """Return how many models make a stack: what stays in the cache, and of convolutions no more than is of use."""
    size = chunk_peers(4 * task.space.size, device)
    if method != "vmap" or device.type != "cpu":
        return size
    count = batch_size * multiplications(task)
    if count:
        size = min(size, max(STACK_MIN, -(-STACK_MULTIPLICATIONS // count)))
    return -(-peers // -(-peers // size))  # all alike


def multiplications(task: Task) -> int:
    """Return how many multiplications the network's convolutions do for one sample."""
    counts: list[int] = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.modules.conv._ConvNd)
        counts.append(output[0, 0].numel() * layer.weight.numel())

    part = task.forward_on().part
    convolutions = [each for each in part.modules() if isinstance(each, nn.modules.conv._ConvNd)]
    hooks = [each.register_forward_hook(count) for each in convolutions]
    try:
        part.eval()
        with torch.no_grad():
            part(task.x_train[:2])  # a norm may need two
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def _agrees(task: Task, device: torch.device, batch_size: int) -> bool:
    """Return whether a step is the same under vmap and alone, for two models that differ."""
    training = task.local_training(device)
    training.forward.module.train()
    x, y = task.x_train[:batch_size].to(device), task.dataset.y_train[:batch_size].to(device)
    lr = torch.tensor(training.lr(0), device=device)
    model = task.initial().to(device)
    models = torch.stack([model, OTHER_WEIGHTS * model])
    forward, split = training.forward, training.forward.space.trained_size
    with torch.no_grad():
        # Without gradients a layer may take another way, which vmap does not know.
        torch.func.vmap(forward, in_dims=(0, 0, None))(models[:, :split], models[:, split:], x)
    state = training.start(models)
    pair = (x.expand(2, *x.shape), y.expand(2, *y.shape))
    together = training.step_stacked(state, *pair, lr.expand(2))
    for place, each in enumerate(models):
        alone = training.step(training.start(each), x, y, lr)
        for one, other, before in (
            (together.state.trained[place], alone.state.trained, state.trained[place]),
            (together.state.rest[place], alone.state.rest, state.rest[place]),
        ):
            if len(one) and not (one - other).abs().max() <= AGREEMENT * (other - before).abs().max():
                return bool(torch.equal(one.isfinite(), other.isfinite()) and not other.isfinite().all())
    return True
