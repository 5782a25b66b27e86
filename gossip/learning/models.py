"""The registry of networks, built from the shape of one sample and the number of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossip.errors import SettingError
from gossip.learning import standardised, user_code
from gossip.learning.settings import ModelSettings
from gossip.settings import Registry

Shape: TypeAlias = tuple[int, ...]

HIDDEN_DEFAULT = (64,)
"""Widths of the mlp's hidden layers where the task says nothing: the digits pilots' network."""

GROUPS_MAX = 32
"""Groups of a GroupNorm layer, as in the field's ResNet-18."""


def build(settings: ModelSettings, input_shape: Shape, classes: int, *, seed: int, folder: Path) -> nn.Module:
    """Return the network that `[model]` names, initialised from `seed` alone.

    Global generators are neither used nor disturbed. A user's ``python:FILE:FUNCTION`` is called as
    ``FUNCTION(input_shape, classes, **arguments)`` and returns a `torch.nn.Module`.

    Raises:
        SettingError: an unknown name, an input shape that the network cannot take, or a user's function that
            fails or returns something else.
    """
    if user_code.is_user_code(settings.name):
        module = _users(settings, input_shape, classes, seed=seed, folder=folder)
    else:
        make = MODELS.get(settings.name)
        if settings.arguments:
            raise SettingError(f"[model] arguments belong to a python: function, not to '{settings.name}'")
        with user_code.seeded_globals(seed):
            module = make(settings, input_shape, classes)
    if settings.weights == "xavier":
        _draw_xavier(module, torch.Generator().manual_seed(seed))
    return module


def hidden_widths(settings: ModelSettings) -> tuple[int, ...] | None:
    """Return the mlp's hidden widths with the default filled in; `None` for other networks."""
    if settings.name != "mlp":
        return None
    return HIDDEN_DEFAULT if settings.hidden is None else settings.hidden


def _draw_xavier(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights anew from U(±sqrt(6 / (fan_in + fan_out))) and set biases to zero (Glorot and Bengio 2010)."""
    for layer in module.modules():
        if not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            continue
        frozen = not layer.weight.requires_grad
        if not frozen and not isinstance(layer.weight, nn.parameter.UninitializedParameter):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _users(
    settings: ModelSettings, input_shape: Shape, classes: int, *, seed: int, folder: Path
) -> nn.Module:
    key = "[model] name"
    function = user_code.load(settings.name, key=key, folder=folder, error=SettingError)
    module = user_code.call(
        lambda: function(input_shape, classes, **settings.arguments),
        name=settings.name,
        key=key,
        seed=seed,
        error=SettingError,
    )
    if not isinstance(module, nn.Module):
        raise SettingError(
            f"{key} = '{settings.name}': the function returned {type(module).__name__}; "
            "it must return a torch.nn.Module"
        )
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise SettingError(
            f"{key} = '{settings.name}': the function returned a TorchScript module, whose weights cannot be put in "
            "from a vector; return the torch.nn.Module that it was made of"
        )
    for part in module.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            part.sparse = False  # the same gradients; a vector's are dense
    if any(map(nn.parameter.is_lazy, [*module.parameters(), *module.buffers()])):
        _give_sizes(module, input_shape, name=settings.name, seed=seed)
    return module


def _give_sizes(module: nn.Module, input_shape: Shape, *, name: str, seed: int) -> None:
    """Let lazy layers take their sizes from two samples."""
    with user_code.seeded_globals(seed), torch.no_grad():
        try:
            module.eval()(torch.zeros(2, *input_shape))
        except (Exception, SystemExit) as failure:
            raise SettingError(
                f"[model] name = '{name}' has lazy layers, and cannot take samples of shape {input_shape} to give them "
                f"their sizes: {user_code.one_line(failure)}"
            ) from failure
        module.train()


def _image(name: str, input_shape: Shape, *, side_min: int) -> tuple[int, int, int]:
    """Return (channels, height, width), or say why `name` cannot take the samples."""
    if len(input_shape) != 3:
        raise SettingError(
            f"[model] name = '{name}' needs images (channels, height, width), but a sample has shape "
            f"{input_shape}; valid for flat features: logistic, mlp"
        )
    channels, height, width = input_shape
    if min(height, width) < side_min:
        raise SettingError(
            f"[model] name = '{name}' needs images of at least {side_min}×{side_min} pixels, not {height}×{width}"
        )
    return channels, height, width


def _logistic(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(_features(input_shape), classes))


def _linear(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    """A linear layer without bias that begins at zero: one column of weights per class, all alike at first."""
    layer = nn.Linear(_features(input_shape), classes, bias=False)
    nn.init.zeros_(layer.weight)
    return nn.Sequential(nn.Flatten(), layer)


def _mlp(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    width = _features(input_shape)
    for hidden in hidden_widths(settings) or ():
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _features(input_shape: Shape) -> int:
    features = 1
    for length in input_shape:
        features *= length
    return features


def _cnn(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    """Two convolutions and one linear layer; no normalisation."""
    channels, height, width = _image("cnn", input_shape, side_min=4)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), classes),
    )


def _lenet_gn(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    """LeNet-5 with GroupNorm and ReLU; both convolutions are padded, so that 8×8 images survive them."""
    channels, height, width = _image("lenet-gn", input_shape, side_min=4)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS_MAX, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS_MAX, channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.GroupNorm(GROUPS_MAX, channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return functional.relu(y + self.shortcut(x))


def _resnet18_gn(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    """ResNet-18 with GroupNorm (32 groups) for every BatchNorm, and a 3×3 stem without pooling for small images."""
    channels, _, _ = _image("resnet18-gn", input_shape, side_min=4)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, 3, padding=1, bias=False),
        nn.GroupNorm(GROUPS_MAX, 64),
        nn.ReLU(),
    ]
    width = 64
    for stage_width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_ResidualBlock(width, stage_width, stride), _ResidualBlock(stage_width, stage_width, 1)]
        width = stage_width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _cnn_ws(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    return standardised.cnn(*_image("cnn-ws", input_shape, side_min=4), classes)


def _resnet18_ws(settings: ModelSettings, input_shape: Shape, classes: int) -> nn.Module:
    channels, _, _ = _image("resnet18-ws", input_shape, side_min=4)
    return standardised.resnet18(channels, classes)


MODELS: Registry[Callable[[ModelSettings, Shape, int], nn.Module]] = Registry("model")
MODELS.add("logistic", _logistic)
MODELS.add("linear", _linear)
MODELS.add("mlp", _mlp)
MODELS.add("cnn", _cnn)
MODELS.add("lenet-gn", _lenet_gn)
MODELS.add("resnet18-gn", _resnet18_gn)
MODELS.add("cnn-ws", _cnn_ws)
MODELS.add("resnet18-ws", _resnet18_ws)
