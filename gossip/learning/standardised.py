"""Layers whose weights are standardised, for networks that normalise nothing else.

FedWon (Zhuang and Lyu, ICLR 2024, arXiv 2306.05879) takes all normalisation out of a network, and reparametrises
its convolutions as normaliser-free networks do (Brock, De, Smith and Simonyan, ICML 2021):

    Ŵ_o = gain_o · γ · (W_o − mean(W_o)) / (std(W_o) · √fan_in),      mean and std over the fan-in of output o

gain_o is learned and begins at 1, γ = √(2 / (1 − 1/π)) gives a ReLU's output unit variance. There are no statistics of
mini-batches then, so peers whose inputs differ do not disagree about them, and mini-batches may be of one sample. The
function does not change when W_o is scaled, and a gradient is at right angles to W_o.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

GAMMA = math.sqrt(2 / (1 - 1 / math.pi))

VARIANCE_MIN = 1e-4
"""Of std² · fan_in: an output whose weights are all alike is not divided by zero."""


def standardised(weight: Tensor, gain: Tensor) -> Tensor:
    """Return Ŵ of `weight` (outputs, …) with `gain` (outputs,)."""
    rows = weight.flatten(1)
    mean = rows.mean(1, keepdim=True)
    variance = (rows - mean).square().mean(1, keepdim=True)
    scale = (variance * rows.shape[1]).clamp(min=VARIANCE_MIN).rsqrt()
    return ((rows - mean) * (scale * (GAMMA * gain)[:, None])).view_as(weight)


class WSConv2d(nn.Conv2d):
    """A convolution with standardised weights; parameters `weight`, `gain` and `bias`."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.gain = nn.Parameter(torch.ones(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x (b, channels, height, width)."""
        weight = standardised(self.weight, self.gain)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class WSBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; their sum is divided by √2, so that a deep network's variance stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = WSConv2d(channels_in, channels_out, 3, stride=stride, padding=1)
        self.conv2 = WSConv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = WSConv2d(channels_in, channels_out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.conv2(functional.relu(self.conv1(x)))
        return functional.relu((y + self.shortcut(x)) / math.sqrt(2))


def cnn(channels: int, height: int, width: int, classes: int) -> nn.Module:
    """Return the network `cnn` with standardised convolutions."""
    return nn.Sequential(
        WSConv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        WSConv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), classes),
    )


def resnet18(channels: int, classes: int) -> nn.Module:
    """Return a ResNet-18 with standardised convolutions and no normalisation; a 3×3 stem without pooling."""
    layers: list[nn.Module] = [WSConv2d(channels, 64, 3, padding=1), nn.ReLU()]
    width = 64
    for stage_width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [WSBlock(width, stage_width, stride), WSBlock(stage_width, stage_width, 1)]
        width = stage_width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
