"""Kinds of networks on columns: scripted, wrapped, compiled, or strange in another way."""

from __future__ import annotations

from typing import Any

import torch
from own_modules_parts import Apply, perceptron
from own_modules_samples import Kinds, Shape, flat
from torch import Tensor, nn

KINDS = Kinds()
on = KINDS.on


def _doubled(x: Tensor) -> Tensor:
    return torch.relu(x) * 2


@on(flat)
def scripted_function(shape: Shape, classes: int) -> nn.Module:
    scripted = torch.jit.script(_doubled)
    return Apply(lambda self, x: self.out(scripted(self.a(x))), a=nn.Linear(12, 8), out=nn.Linear(8, classes))


@on(flat)
def torchscript(shape: Shape, classes: int) -> nn.Module:
    return torch.jit.script(perceptron(nn.ReLU()))


@on(flat)
def traced(shape: Shape, classes: int) -> nn.Module:
    return torch.jit.trace(perceptron(nn.ReLU()), torch.zeros(2, 12))


@on(flat)
def data_parallel(shape: Shape, classes: int) -> nn.Module:
    return nn.DataParallel(perceptron(nn.ReLU()))


@on(flat)
def branch_on_a_value(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(x) if float(x.sum()) > 0 else self.out(-x), out=nn.Linear(12, classes)
    )


@on(flat)
def weights_clamped_in_the_pass(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        self.out.weight.data.clamp_(-0.1, 0.1)
        return self.out(x)

    return Apply(run, out=nn.Linear(12, classes))


@on(flat)
def weight_kept_in_a_list(shape: Shape, classes: int) -> nn.Module:
    net = Apply(lambda self, x: x @ self.kept[0].T, out=nn.Linear(12, classes, bias=False))
    net.kept = [net.out.weight]
    return net


@on(flat)
def weights_of_weights(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: x @ self.hyper(self.code).view(12, classes),
        hyper=nn.Linear(4, 12 * classes),
        code=nn.Parameter(torch.randn(4)),
    )


@on(flat)
def low_rank_adapter(shape: Shape, classes: int) -> nn.Module:
    net = Apply(
        lambda self, x: self.base(x) + self.up(self.down(x)),
        base=nn.Linear(12, classes),
        down=nn.Linear(12, 2, bias=False),
        up=nn.Linear(2, classes, bias=False),
    )
    net.base.requires_grad_(False)
    return net


@on(flat)
def unused_parameter(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: self.out(x), out=nn.Linear(12, classes), spare=nn.Parameter(torch.ones(3)))


@on(flat)
def empty_and_scalar_parameters(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(x) * self.scale,
        out=nn.Linear(12, classes),
        scale=nn.Parameter(torch.tensor(1.5)),
        none=nn.Parameter(torch.zeros(0)),
    )


@on(flat)
def functional_call_inside(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: torch.func.functional_call(self.out, {"weight": torch.tanh(self.raw)}, (x,)),
        out=nn.Linear(12, classes),
        raw=nn.Parameter(torch.randn(classes, 12)),
    )


@on(flat)
def complex_parameter(shape: Shape, classes: int) -> nn.Module:
    weight = nn.Parameter(torch.randn(12, classes, dtype=torch.complex64))
    return Apply(lambda self, x: (x.to(torch.complex64) @ self.weight).abs(), weight=weight)


@on(flat)
def two_outputs(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: (self.out(x), x), out=nn.Linear(12, classes))


@on(flat)
def graph_kept_from_pass_to_pass(shape: Shape, classes: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        h = h + self.before if self.before is not None and self.before.shape == h.shape else h
        self.before = h
        return self.out(h)

    return Apply(run, a=nn.Linear(12, 8), out=nn.Linear(8, classes), before=None)


@on(flat)
def float64_by_default(shape: Shape, classes: int) -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return nn.Linear(12, classes)


@on(flat)
def compiled(shape: Shape, classes: int) -> nn.Module:
    return torch.compile(perceptron(nn.ReLU()), backend="eager")  # type: ignore[return-value]
