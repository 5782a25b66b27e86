"""Kinds of networks on columns: weights that are tied, frozen, listed or made of others, and buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from own_modules_parts import Apply, perceptron
from own_modules_samples import CLASSES, Kinds, Shape, flat
from torch import Tensor, nn
from torch.nn import functional

KINDS = Kinds()
on = KINDS.on


@on(flat)
def tied(shape: Shape, classes: int) -> nn.Module:
    net = Apply(
        lambda self, x: self.out(self.b(torch.relu(self.a(x)))),
        a=nn.Linear(12, 12),
        b=nn.Linear(12, 12),
        out=nn.Linear(12, classes),
    )
    net.b.weight = net.a.weight
    return net


@on(flat)
def tied_and_transposed(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(functional.linear(torch.relu(self.a(x)), self.a.weight.T)),
        a=nn.Linear(12, 8),
        out=nn.Linear(12, classes),
    )


@on(flat)
def one_layer_twice(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(torch.relu(self.a(torch.relu(self.a(x))))),
        a=nn.Linear(12, 12),
        out=nn.Linear(12, classes),
    )


@on(flat)
def frozen_layer(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    net[1].requires_grad_(False)
    return net


@on(flat)
def without_gradient_inside(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = torch.tanh(self.a(x))
        return self.out(h)

    return Apply(run, a=nn.Linear(12, 8), out=nn.Linear(8, classes))


class _Buffered(nn.Module):
    def __init__(self, name: str, value: Tensor, step: Callable[[Any, Tensor], Tensor], **options: Any):
        super().__init__()
        self.out = nn.Linear(12, CLASSES)
        self.register_buffer(name, value, **options)
        self._step = step

    def forward(self, x: Tensor) -> Tensor:
        return self._step(self, x)


@on(flat)
def constant_buffer(shape: Shape, classes: int) -> nn.Module:
    return _Buffered("shift", torch.arange(12.0) / 12, lambda self, x: self.out(x + self.shift))


@on(flat)
def buffer_out_of_the_state_dict(shape: Shape, classes: int) -> nn.Module:
    return _Buffered(
        "shift", torch.arange(12.0) / 12, lambda self, x: self.out(x + self.shift), persistent=False
    )


@on(flat)
def wide_integer_buffer(shape: Shape, classes: int) -> nn.Module:
    return _Buffered("key", torch.tensor(2**40 + 1), lambda self, x: self.out(x * float(self.key % 7)))


@on(flat)
def counting_buffer(shape: Shape, classes: int) -> nn.Module:
    def step(self: Any, x: Tensor) -> Tensor:
        if self.training:
            self.count += 1
        return self.out(x / (1 + self.count))

    return _Buffered("count", torch.zeros((), dtype=torch.int64), step)


@on(flat)
def moving_average_that_is_bound_anew(shape: Shape, classes: int) -> nn.Module:
    def step(self: Any, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.out(x - self.mean)

    return _Buffered("mean", torch.zeros(12), step)


@on(flat)
def parameter_list(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.tanh(x @ weight)
        return self.out(x)

    weights = nn.ParameterList([nn.Parameter(torch.randn(12, 12) / 4) for _ in range(2)])
    return Apply(run, weights=weights, out=nn.Linear(12, classes))


@on(flat)
def parameter_dict(shape: Shape, classes: int) -> nn.Module:
    weights = nn.ParameterDict({"in": torch.randn(12, 6) / 4, "out": torch.randn(6, CLASSES) / 4})
    return Apply(lambda self, x: torch.tanh(x @ self.weights["in"]) @ self.weights["out"], weights=weights)


class _Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


@on(flat)
def parametrised(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU(), inputs=12, width=12)
    nn.utils.parametrize.register_parametrization(net[1], "weight", _Symmetric())
    return net


@on(flat)
def weight_norm(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    nn.utils.parametrizations.weight_norm(net[1])
    return net


@on(flat)
def spectral_norm(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    nn.utils.parametrizations.spectral_norm(net[1])
    return net


@on(flat)
def spectral_norm_by_hook(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    nn.utils.spectral_norm(net[1])
    return net


@on(flat)
def orthogonal(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU(), width=12)
    nn.utils.parametrizations.orthogonal(net[1])
    return net


@on(flat)
def pruned(shape: Shape, classes: int) -> nn.Module:
    from torch.nn.utils import prune

    net = perceptron(nn.ReLU())
    prune.l1_unstructured(net[1], "weight", amount=0.5)
    return net
