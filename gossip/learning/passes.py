"""Forward and backward over one mini-batch: where the gradient comes from, in which precision, and in how many parts.

``[local] precision = "bfloat16"`` (or float16) computes under `torch.autocast`: matrix products in half the bits,
weights and gradients in float32. Small gradients vanish in float16, so the loss is multiplied by `LOSS_SCALE` and the
gradient divided by it; one that overflows all the same is not finite, and its step is skipped.

``[local] micro_batch`` lets a mini-batch through in parts, whose gradients add up to the whole one: what activations
take is that of a part. Networks with BatchNorm, which looks across samples, are refused.

``[local] compile`` has the network compiled, as long as that works: `gossip.learning.compiled`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gossip.learning.compiled import Compiled, tell
from gossip.learning.forward import Forward
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.settings import LocalSettings

LOSS_SCALE = 1024.0
"""Of losses in float16: 2^10, which keeps gradients down to 6e-11."""

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Passes:
    """The passes of a network with a loss.

    Args:
        forward: the network.
        loss: ``loss(outputs (b, …), y (b, …)) -> ()``, the mean.
        settings: `[local]`.
        by_hand: the gradient of this network with this loss without autograd, where there is one.
    """

    def __init__(
        self,
        forward: Forward,
        loss: Callable[[Tensor, Tensor], Tensor],
        settings: LocalSettings,
        *,
        by_hand: LinearGradient | None = None,
    ) -> None:
        self._forward = forward
        self._loss = loss
        self._dtype = DTYPES[settings.precision]
        self._scale = LOSS_SCALE if self._dtype is torch.float16 else 1.0
        self._micro = settings.micro_batch
        self._compile = settings.compile
        self._compiled = Compiled(forward.part) if settings.compile else None
        self._by_hand = by_hand if self.plain else None

    @property
    def plain(self) -> bool:
        """Whether it is one pass in float32, uncompiled, which stacks can do, too."""
        return self._dtype is None and self._micro is None and not self._compile

    def gradients(
        self, slots: Sequence[Tensor], rest: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the mean loss (), what has become of `rest`, and the gradient by slots, in memory of its own."""
        if self._by_hand is not None:
            loss, gradients = self._by_hand(slots, x, y)
            return loss, rest, gradients
        leaves = [slot.detach().requires_grad_() for slot in slots]
        loss, rest = self.backward(leaves, rest, x, y)
        return (
            loss,
            rest,
            [torch.zeros_like(leaf) if leaf.grad is None else self.unscaled(leaf.grad) for leaf in leaves],
        )

    def backward(self, pieces: Sequence[Tensor], rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradient to the leaves behind `pieces`; return the mean loss () and what has become of `rest`.

        What they are multiplied by then is `scale`; `unscaled` takes it out.
        """
        compiled = self._compiled
        if compiled is None:
            return self._backward(self._forward.logits, pieces, rest, x, y)
        compiled.note(x)
        try:
            return self._backward(compiled, pieces, rest, x, y)
        except Exception as failure:
            compiled.undo(pieces, x)
            # A mistake of the network's own is raised here once more, as what it is.
            done = self._backward(self._forward.logits, pieces, rest, x, y)
            self._compiled = None
            tell(failure)
            return done

    def _backward(
        self,
        logits: Callable[[Tensor], Tensor],
        pieces: Sequence[Tensor],
        rest: Tensor,
        x: Tensor,
        y: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), self._forward.holding(pieces, rest, x):
            total: Tensor | None = None
            for x_part, y_part in self._parts(x, y):
                loss = self._of(logits, x_part, y_part)
                share = len(y_part) / len(y)
                # Into `grad`, not out of `autograd.grad`: torch then sees to it that no two slots share a gradient.
                torch.autograd.backward(loss if share * self._scale == 1 else loss * (share * self._scale))
                part = loss.detach() if share == 1 else share * loss.detach()
                total = part if total is None else total + part
            rest = self._forward.rest_now(rest)
        assert total is not None
        return total, rest

    def unscaled(self, gradient: Tensor) -> Tensor:
        """Return a gradient that `backward` made, in its memory, without the factor of float16."""
        return gradient if self._scale == 1 else gradient.div_(self._scale)

    def _of(self, logits: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        with self._precision(x):
            outputs = logits(x)
        return self._loss(outputs if self._dtype is None else outputs.float(), y)

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(x.device.type, dtype=self._dtype)

    def _parts(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if self._micro is None or len(y) <= self._micro:
            yield x, y
        else:
            yield from zip(torch.split(x, self._micro), torch.split(y, self._micro), strict=True)
