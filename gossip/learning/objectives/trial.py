"""An objective that is not ours, tried before anything starts: on targets of the data, and made-up outputs for them.

Its mistakes are sentences there, and no ends of a run later. Nothing here is random, and nothing of it is learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip.errors import SettingError
from gossip.learning import user_code
from gossip.learning.generators import NONE, Generators, Watch
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.of_others import OfOthers

SAMPLES = 64
"""That it is tried on, at most: from all over the data, so that there are several classes among them."""

NUMBERS_MAX = 1 << 20
"""Of the made-up outputs; where a sample needs many, there are fewer samples."""

REPEATS = 4
"""Times that the same loss is asked for: what is drawn from the operating system may fall twice alike."""

TOLERANCE = 1e-4
"""Of a loss that is said to be plain cross-entropy, in terms of it."""


class Trial(NamedTuple):
    """What came of it."""

    draws: Generators = NONE
    """From which generators the loss or the sums draw."""
    cautions: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


def tried(objective: Objective, targets: Tensor, outputs: int, *, seed: int) -> Trial:
    """Try what is not ours on some of `targets` (n, …), for a network with so many `outputs`.

    Raises:
        SettingError: one sentence that names the kind, and what is wrong with it.
    """
    if not isinstance(objective, OfOthers):
        return Trial()
    some, found = _case(objective, targets, outputs)
    with user_code.seeded_globals(seed):
        watch = Watch()
        _probe_loss(objective, found, some)
        _probe_sums(objective, found, some)
        drawn = watch.drawn()
    losses = set()
    for _ in range(REPEATS):
        with user_code.seeded_globals(seed), torch.no_grad():
            losses.add(_bytes(objective.loss(found.clone(), some)))
    if len(losses) == 1:
        return Trial(drawn)
    caution = (
        f"{objective.where}: loss returns something else each time for the same outputs and targets, though `random`, "
        "numpy and torch are seeded alike: runs with equal seeds will differ"
    )
    return Trial(drawn, (caution,))


def _case(objective: Objective, targets: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Return some targets, and outputs for them."""
    count = min(SAMPLES, len(targets))
    numbers = math.prod(objective.shape(targets[:1], outputs))
    count = max(1, min(count, NUMBERS_MAX // max(1, numbers)))
    some = targets[torch.linspace(0, len(targets) - 1, count).long()].clone()
    shape = objective.shape(some, outputs)
    return some, torch.linspace(-1, 1, math.prod(shape)).reshape(shape)


def _probe_loss(objective: OfOthers, outputs: Tensor, targets: Tensor) -> None:
    leaf = outputs.clone().requires_grad_()
    with _unchanged(objective, "loss", targets=targets), torch.enable_grad():
        loss = objective.loss(leaf.clone(), targets)  # a clone, for a loss may change outputs in place
        try:
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        except Exception as failure:
            raise SettingError(
                f"{objective.where}: loss cannot be differentiated: {user_code.one_line(failure)}"
            ) from failure
    if gradient is None:
        raise SettingError(
            f"{objective.where}: what loss returns is cut off from the outputs, and nothing would be learnt; it must "
            "be made of them by torch, without detach(), item() or numpy"
        )
    if objective.plain:
        found, plain = float(loss.detach()), float(cross_entropy(outputs, targets))
        if not math.isclose(found, plain, rel_tol=TOLERANCE):
            raise SettingError(
                f"{objective.where}: plain is True, and loss is no softmax cross-entropy ({found:.4g}, not "
                f"{plain:.4g}); set self.plain = False"
            )


def _probe_sums(objective: OfOthers, outputs: Tensor, targets: Tensor) -> None:
    with torch.no_grad(), _unchanged(objective, "sums", outputs=outputs, targets=targets):
        sums = objective.sums(outputs, targets)
        fewer = objective.sums(outputs[: -(-len(targets) // 2)], targets[: -(-len(targets) // 2)])
    if sums.shape != fewer.shape:
        raise SettingError(
            f"{objective.where}: sums returns {len(sums)} numbers of {len(targets)} samples and {len(fewer)} of fewer; "
            "it must be as many of any, for batches add up"
        )
    objective.measured(sums)


@contextmanager
def _unchanged(objective: OfOthers, method: str, **given: Tensor) -> Iterator[None]:
    before = {name: _bytes(tensor) for name, tensor in given.items()}
    yield
    for name, tensor in given.items():
        if _bytes(tensor) != before[name]:
            raise SettingError(
                f"{objective.where}: {method} changes what it is given: {name}; make new tensors"
            )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()
