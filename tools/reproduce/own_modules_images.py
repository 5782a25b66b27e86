"""Kinds of networks on images."""

from __future__ import annotations

import torch
from own_modules_parts import Apply
from own_modules_samples import CLASSES, Kinds, Shape, images
from torch import nn

KINDS = Kinds()
on = KINDS.on


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
