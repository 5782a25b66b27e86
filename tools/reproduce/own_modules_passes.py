"""Kinds of networks on columns: gradients of one's own, chance, and other types of numbers within a pass."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from own_modules_parts import Apply
from own_modules_samples import Kinds, Shape, flat
from torch import Tensor, nn
from torch.nn import functional

KINDS = Kinds()
on = KINDS.on


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * ctx.saved_tensors[0] * g


@on(flat)
def own_autograd_function(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(_Square.apply(self.a(x))), a=nn.Linear(12, 8), out=nn.Linear(8, classes)
    )


@on(flat)
def straight_through(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.out(h + (torch.sign(h) - h).detach())

    return Apply(run, a=nn.Linear(12, 8), out=nn.Linear(8, classes))


@on(flat)
def noise_of_torch(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(x + torch.randn_like(x) if self.training else x), out=nn.Linear(12, classes)
    )


@on(flat)
def noise_of_numpy(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(x * torch.from_numpy(np.random.rand(12)).float() if self.training else x),
        out=nn.Linear(12, classes),
    )


@on(flat)
def layers_left_out_by_random(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(x if self.training and random.random() < 0.5 else torch.tanh(self.a(x))),
        a=nn.Linear(12, 12),
        out=nn.Linear(12, classes),
    )


@on(flat)
def gumbel_softmax(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(functional.gumbel_softmax(self.a(x)) if self.training else self.a(x)),
        a=nn.Linear(12, 8),
        out=nn.Linear(8, classes),
    )


@on(flat)
def float64_inside(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.a(x.double()).float()),
        a=nn.Linear(12, 8, dtype=torch.float64),
        out=nn.Linear(8, classes),
    )


@on(flat)
def bfloat16_layer(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.a(x.bfloat16()).float()),
        a=nn.Linear(12, 8, dtype=torch.bfloat16),
        out=nn.Linear(8, classes),
    )


@on(flat)
def autocast(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.out(torch.relu(self.a(x))).float()

    return Apply(run, a=nn.Linear(12, 8), out=nn.Linear(8, classes))


@on(flat)
def fourier(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(torch.fft.rfft(self.a(x)).abs()),
        a=nn.Linear(12, 12),
        out=nn.Linear(7, classes),
    )


@on(flat)
def lazy_linear(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(classes))


@on(flat)
def quantisation_aware(shape: Shape, classes: int) -> nn.Module:
    from torch.ao.quantization import FakeQuantize

    return Apply(
        lambda self, x: self.out(self.quantise(torch.relu(self.a(x)))),
        a=nn.Linear(12, 8),
        quantise=FakeQuantize(),
        out=nn.Linear(8, classes),
    )
