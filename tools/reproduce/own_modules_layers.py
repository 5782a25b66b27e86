"""Kinds of networks on columns: layers as torch has them."""

from __future__ import annotations

from own_modules_parts import Apply, perceptron
from own_modules_samples import Kinds, Shape, flat
from torch import nn

KINDS = Kinds()
on = KINDS.on


@on(flat)
def linear(shape: Shape, classes: int) -> nn.Module:
    return nn.Linear(12, classes)


@on(flat)
def mlp(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.ReLU())


@on(flat)
def gelu(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.GELU())


@on(flat)
def bilinear(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: self.layer(x[:, :6], x[:, 6:]), layer=nn.Bilinear(6, 6, classes))


@on(flat)
def dropout(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.ReLU(), nn.Dropout(0.4))


@on(flat)
def alpha_dropout(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.SELU(), nn.AlphaDropout(0.3))


@on(flat)
def layer_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.LayerNorm(8), nn.ReLU())


@on(flat)
def rms_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.RMSNorm(8), nn.SiLU())


@on(flat)
def batch_norm(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.BatchNorm1d(8), nn.ReLU())


@on(flat)
def batch_norm_cumulative(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.BatchNorm1d(8, momentum=None), nn.ReLU())


@on(flat)
def batch_norm_without_statistics(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU())


@on(flat)
def prelu(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.PReLU())


@on(flat)
def rrelu(shape: Shape, classes: int) -> nn.Module:
    return perceptron(nn.RReLU())
