"""Products with frozen weights of half precision, whose way back is not slower than the way there.

On a processor without instructions for half precision torch multiplies x Wᵀ by dot products along the rows of W. The
gradient g W goes along its columns, and takes many times as long. Here it is made of blocks of W's rows in
float32, a megabyte at a time; torch, too, adds up in float32 and rounds the sum.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 1 << 18
"""Numbers of a weight that are float32 at a time: a megabyte."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x Wᵀ (…, m) of `x` (…, n) and a frozen `weight` (m, n), both of one half precision."""
    if x.device.type == "cpu" and torch.is_grad_enabled() and not in_hardware(weight.dtype):
        made: Tensor = _Product.apply(x, weight)  # type: ignore[no-untyped-call]
        return made
    return functional.linear(x, weight)


@cache
def in_hardware(dtype: torch.dtype) -> bool:
    """Return whether the processor multiplies numbers of half precision as they are."""
    asked = f"_is_mkldnn_{'bf16' if dtype is torch.bfloat16 else 'fp16'}_supported"
    try:
        return bool(getattr(torch.ops.mkldnn, asked)())
    except (AttributeError, RuntimeError):  # a torch that was built without it
        return True


class _Product(torch.autograd.Function):
    """x Wᵀ, differentiable in x alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        """Return the product."""
        return functional.linear(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep the weight, which is nobody's copy."""
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return g W (…, n)."""
        (weight,) = ctx.saved_tensors
        rows = max(1, BLOCK // weight.shape[1])
        total = gradient.new_zeros((*gradient.shape[:-1], weight.shape[1]), dtype=torch.float32)
        blocks = zip(torch.split(gradient, rows, dim=-1), torch.split(weight, rows), strict=True)
        for part, block in blocks:
            total = total + part.to(torch.float32) @ block.to(torch.float32)
        return total.to(gradient.dtype), None
