"""Kinds of networks on columns: hooks, and passes that are done again from checkpoints."""

from __future__ import annotations

from own_modules_parts import Apply, perceptron
from own_modules_samples import Kinds, Shape, flat
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

KINDS = Kinds()
on = KINDS.on


@on(flat)
def forward_hooks(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    net[1].register_forward_pre_hook(lambda _, given: (given[0] * 0.5,))
    net[1].register_forward_hook(lambda _, given, made: made + 0.1)
    return net


@on(flat)
def hook_that_reads_weights(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    net[1].register_forward_hook(lambda layer, given, made: made * layer.weight.norm())
    return net


@on(flat)
def backward_hook(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    net[1].register_full_backward_hook(
        lambda _, given, made: tuple(g and g * 0.5 if g is None else g * 0.5 for g in given)
    )
    net[3].register_full_backward_hook(lambda _, given, made: (given[0] * 0.5,))
    return net


@on(flat)
def hook_of_a_weight(shape: Shape, classes: int) -> nn.Module:
    net = perceptron(nn.ReLU())
    net[1].weight.register_hook(lambda g: g * 0.5)
    return net


@on(flat)
def checkpointed(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(checkpoint(self.body, x, use_reentrant=False)),
        body=nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh()),
        out=nn.Linear(16, classes),
    )


@on(flat)
def checkpointed_with_dropout(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(checkpoint(self.body, x, use_reentrant=False)),
        body=nn.Sequential(nn.Linear(12, 16), nn.Dropout(0.3), nn.Tanh()),
        out=nn.Linear(16, classes),
    )


@on(flat)
def checkpointed_batch_norm(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(checkpoint(self.body, x, use_reentrant=False)),
        body=nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh()),
        out=nn.Linear(16, classes),
    )


@on(flat)
def checkpointed_reentrantly(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(checkpoint(self.body, self.first(x), use_reentrant=True)),
        first=nn.Linear(12, 12),
        body=nn.Sequential(nn.Tanh(), nn.Linear(12, 16), nn.Tanh()),
        out=nn.Linear(16, classes),
    )


@on(flat)
def checkpointed_in_segments(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(checkpoint_sequential(self.body, 2, x, use_reentrant=False)),
        body=nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh()),
        out=nn.Linear(16, classes),
    )
