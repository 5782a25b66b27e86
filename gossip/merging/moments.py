"""Mean and population variance of the tensors in a model, or in many, at the cost of reading them once.

Blocks small enough for the cache are summed in float32 and joined in float64 by

    M₂ = Σ_b M₂_b + Σ_b n_b (μ_b - μ)²

(Chan, Golub and LeVeque 1983). Weights vary about zero, and Σ x² - n μ² loses nothing there; where a block's mean is
larger than its spread, that would cancel, and the block is centred before it is squared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**19
"""Of one model: 2 MB and what they are averaged into stay in the last-level cache, and calls cost next to nothing."""
STACK_ELEMENTS = 2**18
"""Of all models together, where many are measured at once."""


class Moments(NamedTuple):
    """Of one tensor in each of n models, (n,), or of m tensors, (n, m); float64."""

    mean: Tensor
    variance: Tensor
    """Divided by the number of elements, not by one less."""


class Scratch:
    """Memory for the copy of a block, taken once: fresh pages for every block would cost more than the arithmetic."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def like(self, block: Tensor) -> Tensor:
        """Return memory of `block`'s shape, good until the next call."""
        if self._memory.numel() < block.numel() or self._memory.device != block.device:
            self._memory = block.new_empty(block.numel())
        return self._memory[: block.numel()].view(block.shape)


class BlockSums:
    """Collects the blocks of one tensor, of `models` models each, and joins them."""

    def __init__(self, models: int, scratch: Scratch) -> None:
        self._models = models
        self._scratch = scratch
        self._blocks: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._squares: list[Tensor | float] = []

    def add(self, block: Tensor) -> None:
        """Take in the next elements, float32, which must not change before they are joined.

        Either of all models at once, (models, elements), or of one after the other, each (elements,).
        """
        self._blocks.append(block)
        self._sums.append(block.sum(-1))
        if block.ndim == 1 and block.device.type == "cpu":
            elements = block.numpy()
            self._squares.append(float(np.dot(elements, elements)))  # twice as fast as torch's
        else:
            norm: Tensor = torch.linalg.vector_norm(block, dim=-1)
            self._squares.append(norm.double().square())

    def joined(self) -> Moments:
        """Return the moments of everything that was added."""
        sums = torch.stack(self._sums).double().view(len(self._blocks), -1)  # (blocks added, models in each)
        sizes = sums.new_tensor([block.shape[-1] for block in self._blocks])[:, None]
        means = sums / sizes
        squares = self._gathered_squares(sums) / sizes - means.square()
        for place in (squares < means.square()).any(1).nonzero()[:, 0].tolist():
            means[place], squares[place] = self._centred(self._blocks[place])
        # From here on a row for each part of the tensor, with all models in it.
        sizes = sizes.expand_as(means).reshape(-1, self._models)
        means, squares = means.view(-1, self._models), squares.view(-1, self._models)
        if len(means) == 1:
            return Moments(means[0], squares[0])
        count = sizes.sum(0)
        mean = (sizes * means).sum(0) / count
        return Moments(mean, (sizes * (squares + (means - mean).square())).sum(0) / count)

    def _gathered_squares(self, like: Tensor) -> Tensor:
        if isinstance(self._squares[0], float):
            return like.new_tensor(self._squares).view(like.shape)
        return torch.stack([each for each in self._squares if isinstance(each, Tensor)]).view(like.shape)

    def _centred(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance about a rounded mean, and corrected for its rounding."""
        shift = block.mean(-1, keepdim=True)
        centred = torch.sub(block, shift, out=self._scratch.like(block))
        off_by = centred.mean(-1).double()
        norm: Tensor = torch.linalg.vector_norm(centred, dim=-1)
        return shift[..., 0].double() + off_by, norm.double().square() / block.shape[-1] - off_by.square()


def moments(tensors: Tensor, scratch: Scratch) -> Moments:
    """Return mean and population variance of each row of `tensors` (n, elements) float32."""
    sums = BlockSums(len(tensors), scratch)
    for block in torch.split(tensors, max(1, STACK_ELEMENTS // len(tensors)), dim=1):
        sums.add(block)
    return sums.joined()
