"""`[local] compile = true`: the forward pass of a local update by `torch.compile`, and its backward pass with it.

The network itself stays what it is, with the names that its tensors have: what is compiled stands beside it, and reads
its tables anew at every pass, in which a vector's values lie by then (`Forward`). It computes the same but for
rounding, so each peer decides for itself. Whatever does not work – no C++ compiler, a network that cannot be traced –
shows at the first pass with samples of a new shape, whose error is told once; all passes are uncompiled from then on,
this one, too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossip.learning import user_code

logger = logging.getLogger("gossip.learning")

BACKEND = "inductor"
"""What `torch.compile` makes code with; it wants a C++ compiler on a CPU, Triton on CUDA."""

OPTIONS = {"inductor": {"fallback_random": True, "compile_threads": 1}}
"""Dropout draws what it draws uncompiled; and no processes stay behind that compile beside the learning."""

CAUSES_MAX = 8
"""Looked through for what has gone wrong behind what was reported; an exception may be its own cause's cause."""


class Compiled:
    """A network's forward pass, compiled when it is first called.

    Args:
        part: the network; it is not changed.
    """

    def __init__(self, part: nn.Module) -> None:
        self._part = part
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._seen: set[tuple[int, ...]] = set()
        self._rng: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Return the network's outputs for `x` (b, …), by the values that it holds now."""
        if self._compiled is not None and x.shape in self._seen:
            return self._compiled(x)
        self._seen.add(x.shape)
        with warnings.catch_warnings():
            # What torch says to its authors while it compiles.
            warnings.simplefilter("ignore")
            if self._compiled is None:
                options: Any = OPTIONS.get(BACKEND)
                self._compiled = torch.compile(self._part, backend=BACKEND, options=options)
            return self._compiled(x)

    def note(self, x: Tensor) -> None:
        """Remember what a pass that fails may have drawn from."""
        self._rng = [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]

    def undo(self, pieces: Sequence[Tensor], x: Tensor) -> None:
        """Take back what a pass has done to the generators and to the gradients of `pieces`' leaves."""
        torch.set_rng_state(self._rng[0])
        if x.is_cuda:
            torch.cuda.set_rng_state(self._rng[1], x.device)
        for piece in pieces:
            leaf = piece if piece.is_leaf or piece._base is None else piece._base
            leaf.grad = None


def tell(failure: Exception) -> None:
    """Say that it goes on uncompiled, and why."""
    cause: BaseException = failure
    for _ in range(CAUSES_MAX):
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause
    logger.warning(
        "[local] compile: torch.compile cannot be used here, and learning goes on without it: %s",
        user_code.one_line(cause),
    )
