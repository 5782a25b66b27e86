"""Does a user's network learn through its vector what it learns in plain torch? One gradient of each, compared.

What a module may do is without end: keep a weight in a list of its own, change it through ``.data``, compute a layer
again in the backward pass. Most of it is right through `Forward`, and what is not would be wrong without a word. So
before a run, at weights that are not the module's own, one mini-batch goes both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.learning import user_code
from gossip.learning.forward import Forward
from gossip.learning.generators import Generators
from gossip.learning.mapped_base import is_finite
from gossip.parameters import ParameterSpace, Role, Slot

TOLERANCE = 1e-4
"""Largest difference, in terms of the largest entry of the gradient: both ways do the same operations in the same
order, so that honest differences are of kernels that add up in an order of their own."""

SAMPLES = 8
"""Of the mini-batch, at most."""

REPEATS = 8
"""Plain passes that must all come out alike before the two ways are said to differ: what a network draws from the
operating system may well fall twice alike, one bit every other time."""

BLOCK = 1 << 20
"""Numbers of two gradients that are compared at a time: whole ones of a large model would be copied for it."""

OTHER_WEIGHTS = 0.9
"""The weights of the comparison, as a share of the module's own."""


MADE_AGAIN_MAX = 1 << 22
"""Larger models are not made a second time only to be compared: that takes memory, and the time of a start."""


class _Pass(NamedTuple):
    """What a forward and backward pass left."""

    gradients: dict[str, Tensor | None]
    """By trained slot; None where none arrived."""
    rest: dict[str, Tensor]
    """Statistics and counters by slot."""


def compare(
    forward: Forward,
    x: Tensor,
    y: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    draws: Generators,
    name: str,
    seed: int,
) -> list[str]:
    """Compare a step on samples `x` (b, *shape), `y` (b,) with plain torch's; return what the user should know.

    Args:
        forward: the network through its vector; its module holds its own values, and does so again afterwards.
        x: samples, `SAMPLES` of them are used.
        y: targets.
        loss: of logits and targets.
        draws: which generators the network draws from.
        name: `[model] name`, to be blamed by.
        seed: for what the network draws.

    Raises:
        SettingError: the network cannot be trained, or not through its vector.
    """
    x, y = x[:SAMPLES], y[:SAMPLES]
    key = f"[model] name = '{name}'"
    with user_code.seeded_globals(seed):
        try:
            plain = _plain(forward, x, y, loss, draws, seed)
            ours = _ours(forward, x, y, loss, draws, seed)
        except SettingError:
            raise
        except (Exception, SystemExit) as failure:
            raise SettingError(f"{key} cannot be trained: {user_code.one_line(failure)}") from failure
        difference = _difference(plain, ours)
        if difference is None:
            return []
        again = (_plain(forward, x, y, loss, draws, seed) for _ in range(REPEATS))
        if any(_difference(plain, each) is not None for each in again):
            return [
                f"{key} computes differently each time, though `random`, numpy and torch are seeded alike: runs with "
                "equal seeds will differ"
            ]
    raise SettingError(
        f"{key} learns otherwise than in plain torch when its weights are put in: {difference}"
    )


def begins(initial: Tensor, again: Tensor, *, name: str) -> list[str]:
    """Compare the model [P] that a network begins with and that of one made anew; return what the user should know."""
    if torch.equal(initial.view(torch.int32), again.view(torch.int32)):
        return []
    return [
        f"[model] name = '{name}' begins with other values each time it is made, though `random`, numpy and torch are "
        "seeded alike: peers begin with different models, and runs with equal seeds will differ"
    ]


def _plain(
    forward: Forward,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    draws: Generators,
    seed: int,
) -> _Pass:
    """Return what plain torch makes of a step, at the weights of the comparison."""
    module, space = forward.module, forward.space
    named = dict([*module.named_parameters(), *module.named_buffers()])
    held = [slot for slot in space.slots if slot.role is not Role.FROZEN]
    kept = {slot.name: named[slot.name].detach().clone() for slot in held}
    trained = [named[slot.name] for slot in space.slots_of(Role.LEARNED, Role.PRIVATE)]
    module.train()
    module.zero_grad()  # what a pass has left in a weight that the network keeps elsewhere, too
    try:
        with torch.no_grad():
            for tensor in trained:
                tensor.mul_(OTHER_WEIGHTS)
        draws.seed(seed, x)
        with _untouched(forward):
            torch.autograd.backward(loss(forward.logits(x), y))
        named = dict([*module.named_parameters(), *module.named_buffers()])
        return _Pass(
            {slot.name: named[slot.name].grad for slot in space.slots_of(Role.LEARNED, Role.PRIVATE)},
            {
                slot.name: named[slot.name].detach().to(torch.float32).clone()
                for slot in space.slots_of(Role.STATISTIC, Role.COUNTER)
            },
        )
    finally:
        for tensor in module.parameters():
            tensor.grad = None
        with torch.no_grad():
            for slot in held:
                _put_back(module, slot, kept[slot.name])


def _put_back(module: torch.nn.Module, slot: Slot, value: Tensor) -> None:
    named = module.get_parameter if slot.role in (Role.LEARNED, Role.PRIVATE) else module.get_buffer
    named(slot.name).copy_(value)


def _ours(
    forward: Forward,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    draws: Generators,
    seed: int,
) -> _Pass:
    """Return what the same step is through the vector."""
    space: ParameterSpace = forward.space
    vector = space.flatten_module(forward.module)
    split = space.trained_size
    rest = vector[split:]
    # In the vector's own memory: a second copy would be the largest thing of a start beside a large base.
    leaves = [piece.mul_(OTHER_WEIGHTS).requires_grad_() for piece in forward.pieces(vector[:split])]
    forward.module.train()
    draws.seed(seed, x)
    with _untouched(forward), forward.holding(leaves, rest, x):
        torch.autograd.backward(loss(forward.logits(x), y))
        rest = forward.rest_now(rest)
    slots = space.slots_of(Role.STATISTIC, Role.COUNTER)
    pieces = torch.split(rest, [slot.size for slot in slots])
    return _Pass(
        {
            slot.name: leaf.grad
            for slot, leaf in zip(space.slots_of(Role.LEARNED, Role.PRIVATE), leaves, strict=True)
        },
        {slot.name: piece.view(slot.shape) for slot, piece in zip(slots, pieces, strict=True)},
    )


@contextmanager
def _untouched(forward: Forward) -> Iterator[None]:
    """See to it that what is frozen stays as it is.

    Raises:
        SettingError: a pass changed it.
    """
    frozen = {slot.name for slot in forward.space.slots_of(Role.FROZEN)}
    named = [*forward.module.named_parameters(), *forward.module.named_buffers()]
    versions = {name: (tensor, tensor._version) for name, tensor in named if name in frozen}
    # Norms change their statistics without a new version.
    contents = {name: tensor.clone() for name, tensor in forward.module.named_buffers() if name in frozen}
    yield
    for name, tensor in [*forward.module.named_parameters(), *forward.module.named_buffers()]:
        if name not in versions:
            continue
        same = tensor is versions[name][0] and tensor._version == versions[name][1]
        if not same or (name in contents and not torch.equal(tensor, contents[name])):
            raise SettingError(f"tensor '{name}' is frozen, and the network changes it while it trains")


def _difference(one: _Pass, other: _Pass) -> str | None:
    """Return in which tensor two passes differ, or None."""
    scale = max((_largest(g) for g in one.gradients.values() if g is not None), default=0.0)
    for name, g in one.gradients.items():
        h = other.gradients[name]
        if g is None or h is None:
            arrived = g if h is None else h
            if arrived is not None and _largest(arrived) > TOLERANCE * scale:
                which = "only then" if g is None else "not then"
                return f"'{name}' has a gradient {which}"
            continue
        off = _apart(g, h)
        if is_finite(g) and not off <= TOLERANCE * scale:
            return f"the gradient of '{name}' differs by {off:.2g}, of {scale:.2g}"
    for name, value in one.rest.items():
        off = _apart(value, other.rest[name])
        if is_finite(value) and not off <= TOLERANCE * max(1.0, _largest(value)):
            return f"'{name}' is left otherwise, by {off:.2g}"
    return None


def _largest(tensor: Tensor) -> float:
    """Return the largest magnitude; NaN where there is one."""
    blocks = torch.split(tensor.detach().reshape(-1), BLOCK)
    return float(torch.stack([block.abs().max() for block in blocks]).max()) if tensor.numel() else 0.0


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; NaN where there is one."""
    if not one.numel():
        return 0.0
    blocks = zip(torch.split(one.reshape(-1), BLOCK), torch.split(other.reshape(-1), BLOCK), strict=True)
    return float(torch.stack([(a.float() - b.float()).abs().max() for a, b in blocks]).max())
