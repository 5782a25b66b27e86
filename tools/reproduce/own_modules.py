"""Kinds of networks that people bring: does a local update of each do what plain torch does?

    python tools/reproduce/own_modules.py [KIND ...] [--json] [--smoke]

Every function below makes one kind. Three steps with momentum on a node's path are held against a loop of plain torch
over the same mini-batches and seeds, and one step of the virtual engine's (stacked, where it takes the network so)
against the node's. A kind is equal to 1e-5 of the largest change, or refused before the run in one sentence. Parameters
that are not float32 are compared with plain steps on float32 copies of them, as mixed precision is done.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

SAMPLES, CLASSES = 24, 3
TOKENS = 20
EQUAL = 1e-5
STEPS = 3

Shape = tuple[int, ...]
Make = Callable[[Shape, int], nn.Module]
KINDS: dict[str, str] = {}
"""Name of the kind: the function that makes its samples."""


def _arrays(shape: Shape, *, whole: bool = False) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    x = draw.integers(0, TOKENS, (SAMPLES, *shape)) if whole else draw.normal(size=(SAMPLES, *shape))
    y = np.arange(SAMPLES) % CLASSES
    return {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}


def flat() -> dict[str, Any]:
    """Twelve columns."""
    return _arrays((12,))


def images() -> dict[str, Any]:
    """Two channels of eight by eight."""
    return _arrays((2, 8, 8))


def sequences() -> dict[str, Any]:
    """Six points in time, five numbers each."""
    return _arrays((6, 5))


def tokens() -> dict[str, Any]:
    """Seven tokens."""
    return _arrays((7,), whole=True)


def on(samples: Callable[[], dict[str, Any]]) -> Callable[[Make], Make]:
    """Register a kind that is tried on these samples."""

    def register(make: Make) -> Make:
        KINDS[make.__name__] = samples.__name__
        return make

    return register


class Apply(nn.Module):
    """Parts, and a forward pass that is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._pass = forward

    def forward(self, x: Tensor) -> Any:
        """Do it."""
        return self._pass(self, x)


def _mlp(*between: nn.Module, inputs: int = 12, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), *between, nn.Linear(width, CLASSES))


# --- columns ---------------------------------------------------------------------------------------


@on(flat)
def linear(shape: Shape, classes: int) -> nn.Module:
    return nn.Linear(12, classes)


@on(flat)
def mlp(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.ReLU())


@on(flat)
def gelu(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.GELU())


@on(flat)
def bilinear(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: self.layer(x[:, :6], x[:, 6:]), layer=nn.Bilinear(6, 6, classes))


@on(flat)
def dropout(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.ReLU(), nn.Dropout(0.4))


@on(flat)
def alpha_dropout(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.SELU(), nn.AlphaDropout(0.3))


@on(flat)
def layer_norm(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.LayerNorm(8), nn.ReLU())


@on(flat)
def rms_norm(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.RMSNorm(8), nn.SiLU())


@on(flat)
def batch_norm(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.BatchNorm1d(8), nn.ReLU())


@on(flat)
def batch_norm_cumulative(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.BatchNorm1d(8, momentum=None), nn.ReLU())


@on(flat)
def batch_norm_without_statistics(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU())


@on(flat)
def prelu(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.PReLU())


@on(flat)
def rrelu(shape: Shape, classes: int) -> nn.Module:
    return _mlp(nn.RReLU())


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
    net = _mlp(nn.ReLU())
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
    net = _mlp(nn.ReLU(), inputs=12, width=12)
    nn.utils.parametrize.register_parametrization(net[1], "weight", _Symmetric())
    return net


@on(flat)
def weight_norm(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    nn.utils.parametrizations.weight_norm(net[1])
    return net


@on(flat)
def spectral_norm(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    nn.utils.parametrizations.spectral_norm(net[1])
    return net


@on(flat)
def spectral_norm_by_hook(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    nn.utils.spectral_norm(net[1])
    return net


@on(flat)
def orthogonal(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU(), width=12)
    nn.utils.parametrizations.orthogonal(net[1])
    return net


@on(flat)
def pruned(shape: Shape, classes: int) -> nn.Module:
    from torch.nn.utils import prune

    net = _mlp(nn.ReLU())
    prune.l1_unstructured(net[1], "weight", amount=0.5)
    return net


@on(flat)
def forward_hooks(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    net[1].register_forward_pre_hook(lambda _, given: (given[0] * 0.5,))
    net[1].register_forward_hook(lambda _, given, made: made + 0.1)
    return net


@on(flat)
def hook_that_reads_weights(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    net[1].register_forward_hook(lambda layer, given, made: made * layer.weight.norm())
    return net


@on(flat)
def backward_hook(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
    net[1].register_full_backward_hook(
        lambda _, given, made: tuple(g and g * 0.5 if g is None else g * 0.5 for g in given)
    )
    net[3].register_full_backward_hook(lambda _, given, made: (given[0] * 0.5,))
    return net


@on(flat)
def hook_of_a_weight(shape: Shape, classes: int) -> nn.Module:
    net = _mlp(nn.ReLU())
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


def _doubled(x: Tensor) -> Tensor:
    return torch.relu(x) * 2


@on(flat)
def scripted_function(shape: Shape, classes: int) -> nn.Module:
    scripted = torch.jit.script(_doubled)
    return Apply(lambda self, x: self.out(scripted(self.a(x))), a=nn.Linear(12, 8), out=nn.Linear(8, classes))


@on(flat)
def torchscript(shape: Shape, classes: int) -> nn.Module:
    return torch.jit.script(_mlp(nn.ReLU()))


@on(flat)
def traced(shape: Shape, classes: int) -> nn.Module:
    return torch.jit.trace(_mlp(nn.ReLU()), torch.zeros(2, 12))


@on(flat)
def data_parallel(shape: Shape, classes: int) -> nn.Module:
    return nn.DataParallel(_mlp(nn.ReLU()))


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
    return torch.compile(_mlp(nn.ReLU()), backend="eager")  # type: ignore[return-value]


# --- images ----------------------------------------------------------------------------------------


def _pooled(*layers: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


@on(images)
def convolution(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3), nn.ReLU(), channels=4)


@on(images)
def depthwise(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), channels=4)


@on(images)
def dilated_and_reflected(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3, dilation=2, padding=2, padding_mode="reflect"), nn.ReLU(), channels=4)


@on(images)
def transposed_convolution(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.ConvTranspose2d(2, 4, 3, stride=2), nn.ReLU(), channels=4)


@on(images)
def group_norm(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), channels=4)


@on(images)
def batch_norm_2d(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), channels=4)


@on(images)
def instance_norm_with_statistics(shape: Shape, classes: int) -> nn.Module:
    return _pooled(
        nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), channels=4
    )


@on(images)
def dropout_of_channels(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3), nn.Dropout2d(0.4), nn.ReLU(), channels=4)


@on(images)
def pixel_shuffle(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(), channels=2)


@on(images)
def channels_last(shape: Shape, classes: int) -> nn.Module:
    return _pooled(nn.Conv2d(2, 4, 3), nn.ReLU(), channels=4).to(memory_format=torch.channels_last)


@on(images)
def lazy_convolution(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


@on(images)
def residual(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out((x + torch.relu(self.conv(x))).mean((2, 3))),
        conv=nn.Conv2d(2, 2, 3, padding=1),
        out=nn.Linear(2, classes),
    )


# --- sequences -------------------------------------------------------------------------------------


def _recurrent(layer: nn.Module, width: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.layer(x)[0][:, -1]), layer=layer, out=nn.Linear(width, CLASSES)
    )


@on(sequences)
def rnn(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.RNN(5, 8, batch_first=True), 8)


@on(sequences)
def lstm(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, batch_first=True), 8)


@on(sequences)
def gru_both_ways(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.GRU(5, 8, batch_first=True, bidirectional=True), 16)


@on(sequences)
def lstm_deep_with_dropout(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, num_layers=2, dropout=0.3, batch_first=True), 8)


@on(sequences)
def lstm_projected(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, proj_size=4, batch_first=True), 4)


@on(sequences)
def convolution_1d(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(torch.relu(self.conv(x.mT)).amax(2)),
        conv=nn.Conv1d(5, 8, 3),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def attention(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.attend(self.up(x), self.up(x), self.up(x))[0].mean(1)),
        up=nn.Linear(5, 8),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def transformer(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.encode(self.up(x)).mean(1)),
        up=nn.Linear(5, 8),
        encode=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), 2, enable_nested_tensor=False
        ),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def causal_attention(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(
            functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), is_causal=True)[:, -1]
        ),
        q=nn.Linear(5, 8),
        k=nn.Linear(5, 8),
        v=nn.Linear(5, 8),
        out=nn.Linear(8, classes),
    )


# --- tokens ----------------------------------------------------------------------------------------


def _looked_up(table: nn.Module) -> nn.Module:
    return Apply(lambda self, x: self.out(self.table(x).mean(1)), table=table, out=nn.Linear(8, CLASSES))


@on(tokens)
def embedding(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8))


@on(tokens)
def embedding_with_padding(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, padding_idx=0))


@on(tokens)
def embedding_sparse(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, sparse=True))


@on(tokens)
def embedding_by_frequency(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, scale_grad_by_freq=True))


@on(tokens)
def embedding_of_bounded_norm(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, max_norm=1.0))


@on(tokens)
def embedding_bag(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.table(x)), table=nn.EmbeddingBag(TOKENS, 8), out=nn.Linear(8, classes)
    )


@on(tokens)
def tied_to_the_embedding(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: (self.table(x).mean(1) @ self.table.weight.T)[:, :classes],
        table=nn.Embedding(TOKENS, 8),
    )


@on(tokens)
def tokens_as_numbers(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: self.out(x), out=nn.Linear(7, classes))


# --- the comparison --------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of one kind."""

    kind: str
    refused: str | None
    """The sentence, or None."""
    error: float
    """Of the node's path, as a share of the largest change."""
    stacked: str
    """How the virtual engine trains it: linear-stack, vmap or loop."""
    stacked_error: float
    cautions: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it is equal, or refused."""
        return self.refused is not None or (self.error <= EQUAL and self.stacked_error <= 10 * EQUAL)


def compare(kind: str) -> Outcome:
    """Train one kind both ways."""
    from gossip.errors import UserError
    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings, OwnPartition
    from gossip.learning.task import Task

    here = Path(__file__).resolve()
    task = Task(
        data=DataSettings(source=f"python:{here}:{KINDS[kind]}", partition=OwnPartition()),
        model=ModelSettings(name=f"python:{here}:{kind}"),
        local=LocalSettings(lr=0.1, momentum=0.9, batch_size=8, steps=STEPS),
        seed=1,
        folder=here.parent,
    )
    try:
        task.check()
        x, y = task.x_train, task.dataset.y_train
        start = task.initial()
        ours = task.local_training().run(start.clone(), x, y, seed=1, peer="a", round=0).model
    except UserError as error:
        return Outcome(kind, str(error), 0.0, "", 0.0, ())
    wanted = _plain(task, x, y)
    split = task.space.trained_size
    error = max(_error(ours[part], wanted[part], start[part]) for part in (slice(split), slice(split, None)))
    return Outcome(kind, None, error, *_stacked(task, x, y), task.cautions)


def _plain(task: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the model [P] after the same steps by a loop of plain torch."""
    from gossip import seeding
    from gossip.learning import batches, models, user_code

    local = task.local_settings
    module = models.build(
        task.model_settings,
        task.taken_shape,
        task.dataset.classes,
        seed=seeding.integer_seed(task.seed, "init"),
        folder=task.folder,
    ).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    copies = [p.detach().float().clone() for p in parameters]
    optimizer = torch.optim.SGD(copies, lr=local.lr, momentum=local.momentum)
    first = seeding.integer_seed(1, "dropout", peer="a", round=0)
    step = 0
    for epoch in batches.epochs(len(y), local, seed=1, peer="a", round=0, batch_min=task.batch_min):
        for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
            with user_code.seeded_globals((first + step) % 2**63):
                functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
            for parameter, copy in zip(parameters, copies, strict=True):
                if parameter.dtype is torch.float32:
                    copy.copy_(parameter.detach())  # a pass may have changed it
                copy.grad = torch.zeros_like(copy) if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
            optimizer.step()
            with torch.no_grad():
                for parameter, copy in zip(parameters, copies, strict=True):
                    parameter.copy_(copy)
            step += 1
    vector: Tensor = task.space.flatten_module(module)
    held = iter(copies)
    wide = {id(p): copy for p, copy in zip(parameters, held, strict=True)}
    named = dict(module.named_parameters())
    for slot in task.space.slots:
        if slot.name in named and id(named[slot.name]) in wide:
            vector[slot.offset : slot.end] = wide[id(named[slot.name])].reshape(-1)
    return vector


def _stacked(task: Any, x: Tensor, y: Tensor) -> tuple[str, float]:
    """Return how the virtual engine trains the network, and how far one of its steps is from the node's."""
    from scenarios.virtual.learning.linear_stack import LinearStack
    from scenarios.virtual.learning.methods import choose

    method = choose(task, "auto", device=torch.device("cpu"), batch_size=8).method
    if method == "loop":
        return method, 0.0
    training = task.local_training()
    training.forward.module.train()
    models = torch.stack([task.initial(), 0.9 * task.initial()])
    lr = torch.tensor(0.1)
    stack = LinearStack.of(task.module, task.space) if method == "linear-stack" else None
    together = training.step_stacked(
        training.start(models),
        x[:8].expand(2, 8, *x.shape[1:]),
        y[:8].expand(2, 8),
        lr.expand(2),
        gradient=None if stack is None else stack.gradient,
    ).state.trained
    alone = torch.stack(
        [training.step(training.start(model), x[:8], y[:8], lr).state.trained for model in models]
    )
    return method, _error(together, alone, models[:, : alone.shape[1]])


def _error(ours: Tensor, wanted: Tensor, before: Tensor) -> float:
    """Return the largest difference as a share of the largest change."""
    if not wanted.numel() or torch.equal(ours, wanted):
        return 0.0
    return float((ours - wanted).abs().max() / (wanted - before).abs().max())


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="four kinds: to see that it works")
    options = parser.parse_args(arguments)
    kinds = options.kinds or list(KINDS)
    if options.smoke:
        kinds = ["linear", "checkpointed", "embedding", "torchscript"]
    outcomes = [compare(kind) for kind in kinds]
    if options.json:
        print(json.dumps([outcome._asdict() for outcome in outcomes], indent=1))
    else:
        for each in outcomes:
            told = each.refused or f"{each.error:.1e}  {each.stacked:12} {each.stacked_error:.1e}"
            print(f"{'ok ' if each.holds else 'NOT'} {each.kind:36} {told}", *each.cautions)
        refused = sum(each.refused is not None for each in outcomes)
        print(f"{len(outcomes)} kinds: {len(outcomes) - refused} as in plain torch, {refused} refused")
    return 0 if all(each.holds for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
