"""Adapters: the base stays as it is, and what is learnt, sent and merged are low-rank factors beside its layers.

A layer with the weight W (m outputs, n inputs; for a convolution n counts the kernel's entries, too) computes with

    W + s·BA        B (m, r), A (r, n)         LoRA, Hu et al., ICLR 2022
    W + s·LRA       L (m, r), R (r, r)         LoRA-SB, Ponkshe et al. 2024; Fed-SB, Singhal et al. 2025

What a peer sends is B with a frozen A (FFA-LoRA, Sun et al., ICLR 2024), R between two frozen factors, or A and B. The
first two are linear in what travels, so averages of adapters are averages of weights, and any rule or codec acts on
the weights themselves. B and R begin at zero: all peers begin at the base.

A layer becomes one of a subclass of its own, in place. Its tensors keep their names, and so do hooks, files of the
base's tensors, and whoever else holds the layer. Frozen factors are drawn from the run's seed, never from a peer's.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from gossip.errors import SettingError, nearest
from gossip.learning import adapter_bases as bases
from gossip.learning import half_products, seed_space
from gossip.learning.adapter_settings import AdapterSettings

FACTORS = ("lora_A", "lora_B", "lora_R", "lora_L")
"""Names of the tensors beside a layer's own."""

HALVES = (torch.bfloat16, torch.float16)


class Held:
    """A layer of the base whose weight may be of half precision: its product is made in that, all else in the input's.

    Mixed in before the layer's class.
    """

    weight: Tensor
    bias: Tensor | None

    def base(self, x: Tensor) -> Tensor:
        """Return what the layer itself makes of `x`."""
        forward: Any = super().forward  # type: ignore[misc]
        own: Tensor
        if self.weight.dtype not in HALVES or x.dtype is self.weight.dtype:
            own = forward(x)
        elif not x.is_floating_point():  # an embedding's
            own = forward(x).to(torch.float32)
        else:
            own = self.multiplied(x.to(self.weight.dtype)).to(x.dtype)
            if self.bias is not None:
                own = own + self.over_channels(self.bias.to(x.dtype))
        return own

    def multiplied(self, x: Tensor) -> Tensor:
        """Return the product of the weight with `x`, without bias."""
        layer: Any = self
        if isinstance(layer, nn.modules.conv._ConvNd):
            product: Tensor = layer._conv_forward(x, self.weight, None)
            return product
        return half_products.product(x, self.weight if isinstance(layer, nn.Linear) else self.weight.T)

    def over_channels(self, bias: Tensor) -> Tensor:
        """Return a bias (m,) as it is added to an output: of a convolution along its channels, not the last axis."""
        layer: Any = self
        if isinstance(layer, nn.modules.conv._ConvNd):
            return bias.reshape(-1, *[1] * len(layer.kernel_size))
        return bias

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer makes of `x`."""
        return self.base(x)


class Adapted(Held):
    """A layer with factors beside its weight. Mixed in before the layer's class."""

    lora_scale: float
    lora_train: str
    lora_A: Tensor  # (r, n)
    lora_B: Tensor  # (m, r)
    lora_R: Tensor  # (r, r)
    lora_L: Tensor  # (m, r)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer with its adapter makes of `x`."""
        y = self.base(x)
        given = x.to(self.lora_A.dtype) if x.is_floating_point() else x
        return y + self.beside(given).to(y.dtype)

    def beside(self, x: Tensor) -> Tensor:
        """Return what the factors add to the layer's output."""
        first, *others = self.factors
        layer: Any = self
        if isinstance(layer, nn.modules.conv._ConvNd):
            kernel = first.view(len(first), *self.weight.shape[1:])
            h: Tensor = self.lora_scale * layer._conv_forward(x, kernel, None)
            convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(layer.kernel_size) - 1]
            for factor in others:
                h = convolve(h, factor.view(*factor.shape, *[1] * len(layer.kernel_size)))
            return h
        if isinstance(layer, nn.Embedding):
            h = self.lora_scale * functional.embedding(x, first.T)
        else:
            h = self.lora_scale * functional.linear(x, first)
        for factor in others:
            h = functional.linear(h, factor)
        return h

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """The factors in the order in which an input meets them."""
        if self.lora_train == "R":
            return self.lora_A, self.lora_R, self.lora_L
        return self.lora_A, self.lora_B

    def change(self) -> Tensor:
        """Return what is added to the weight, in its own shape and place: s·BA or s·LRA."""
        first, *others = self.factors
        product = first
        for factor in others:
            product = factor @ product
        product = self.lora_scale * product  # (m, n)
        return product.reshape(self.weight.shape) if rows_are_outputs(self) else product.T


class HeldNorm:
    """A BatchNorm of the base: its statistics are the base's, or what peers learn beside it would not compare."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised by the base's statistics, while it trains, too."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def adapt(
    network: nn.Module, settings: AdapterSettings, *, seed: int, like: nn.Module | None = None
) -> frozenset[str]:
    """Put adapters beside layers of `network`, in place, and freeze all else; return the names of what learns.

    Args:
        network: a user's own or one of ours, with its weights.
        settings: `[model.adapter]`.
        seed: the run's.
        like: a network that was adapted so before, whose frozen factors are taken over.

    Raises:
        SettingError: there is no such layer, or one that cannot have an adapter.
    """
    if settings.kind == "seed-space":
        seed_space.put_into(network, size=settings.directions, seed=seed, like=like)
        _hold_norms(network)
        return frozenset({seed_space.COEFFICIENTS})
    chosen = _chosen(network, settings)
    output = _output_layer(network, settings, chosen)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    _hold(network, settings, output)
    for name, layer in chosen.items():
        _put_beside(name, layer, settings, seed=seed, like=None if like is None else like.get_submodule(name))
        if settings.bias and getattr(layer, "bias", None) is not None:
            layer.bias.requires_grad_(True)
    if output is not None:
        for parameter in output.parameters():
            parameter.requires_grad_(True)
    return frozenset(name for name, parameter in network.named_parameters() if parameter.requires_grad)


def adapted(network: nn.Module) -> dict[str, Adapted]:
    """Return the layers with adapters by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Adapted)}


def pretrained(network: nn.Module) -> str:
    """Return the name of the part that a transformers model is, where all adapters are within it; else ''."""
    names = list(adapted(network))
    for owner, part in network.named_modules():
        if hasattr(part, "save_pretrained") and hasattr(part, "config"):
            return owner if all(name.startswith(f"{owner}." if owner else "") for name in names) else ""
    return ""


def matrix_of(layer: Any) -> Tensor:
    """Return a layer's weight as (m, n): outputs by inputs."""
    weight: Tensor = layer.weight.detach()
    return weight.flatten(1) if rows_are_outputs(layer) else weight.T


def rows_are_outputs(layer: Any) -> bool:
    """Return whether the first axis of a layer's weight are its outputs."""
    return isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)


def is_transposed_linear(layer: Any) -> bool:
    """Return whether it is what the transformers library calls Conv1D: a linear layer with its weight (n, m)."""
    return type(layer).__name__ == "Conv1D" and hasattr(layer, "nf") and hasattr(layer, "nx")


def may_be_adapted(layer: nn.Module) -> bool:
    """Return whether it is a layer that may have an adapter."""
    if isinstance(layer, NonDynamicallyQuantizableLinear | nn.modules.conv._ConvTransposeNd):
        return False  # an attention reads the one's weight itself
    return isinstance(
        layer, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d
    ) or is_transposed_linear(layer)


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return all layers that may have an adapter, by name."""
    return {name: layer for name, layer in network.named_modules() if may_be_adapted(layer)}


def _grouped(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1


def _last_linear(layers: Mapping[str, nn.Module]) -> str | None:
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    return linear[-1] if linear else None


def _chosen(network: nn.Module, settings: AdapterSettings) -> dict[str, nn.Module]:
    layers = _layers(network)
    if settings.targets is None:
        last = _last_linear(layers)
        chosen = {
            name: layer
            for name, layer in layers.items()
            if name != last and not isinstance(layer, nn.Embedding) and not _grouped(layer)
        }
        if not chosen:
            raise SettingError(
                "[model.adapter] finds no linear or convolution layer before the last linear one; name them: "
                f'targets = ["*"], of {", ".join(layers) or "none"}'
            )
        return chosen
    chosen = {}
    for pattern in settings.targets:
        matching = fnmatch.filter(layers, pattern)
        if not matching:
            raise SettingError(
                f"[model.adapter] targets = '{pattern}' matches no linear, convolution or embedding layer of the "
                f"network; {nearest(pattern, layers)}"
            )
        for name in matching:
            if _grouped(layers[name]) and len(matching) == 1:
                raise SettingError(
                    f"[model.adapter] targets = '{pattern}': '{name}' is a convolution in groups, which has no "
                    "adapter; [model] learned learns it as a whole"
                )
        chosen.update({name: layers[name] for name in matching if not _grouped(layers[name])})
    return chosen


def _output_layer(
    network: nn.Module, settings: AdapterSettings, chosen: Mapping[str, nn.Module]
) -> nn.Module | None:
    """Return the layer that learns as a whole."""
    layers = _layers(network)
    name = _last_linear(layers)
    if name is None or name in chosen or settings.output is False:
        return None
    tied = (
        sum(layer.weight is layers[name].weight for layer in network.modules() if hasattr(layer, "weight"))
        > 1
    )
    return None if tied and settings.output is None else layers[name]


def _hold(network: nn.Module, settings: AdapterSettings, output: nn.Module | None) -> None:
    """Let layers of the base bear half precision, and its norms keep their statistics."""
    _hold_norms(network)
    for layer in _layers(network).values():
        if layer is output:
            continue  # what learns keeps all its bits
        weight: Any = layer.weight
        if settings.dtype is not None:
            weight.data = weight.data.to(getattr(torch, settings.dtype))
        if weight.dtype in HALVES:
            _mix_in(Held, layer)


def _hold_norms(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None:
            _mix_in(HeldNorm, layer)


def _put_beside(name: str, layer: Any, settings: AdapterSettings, *, seed: int, like: Any | None) -> None:
    outputs, inputs = matrix_of(layer).shape
    rank = min(settings.rank, inputs, *([] if settings.train == "B" else [outputs]))
    _mix_in(Adapted, layer)
    layer.lora_scale = settings.scale
    layer.lora_train = settings.train
    for factor in settings.frozen_factors if like is not None else ():
        layer.register_parameter(factor, nn.Parameter(getattr(like, factor).detach(), requires_grad=False))
    if like is None or settings.train == "AB":
        for factor, value in _drawn(name, layer, settings, rank, seed=seed):
            layer.register_parameter(
                factor, nn.Parameter(value, requires_grad=factor not in settings.frozen_factors)
            )
    shape, factor = {"R": ((rank, rank), "lora_R")}.get(settings.train, ((outputs, rank), "lora_B"))
    layer.register_parameter(factor, nn.Parameter(torch.zeros(shape)))


def _drawn(
    name: str, layer: Any, settings: AdapterSettings, rank: int, *, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the factors that do not begin at zero."""
    matrix = matrix_of(layer)
    if settings.train == "R" and settings.basis == "base":
        left, right = bases.of_weight(matrix, rank, seed=seed, name=name)
        yield "lora_L", left
        yield "lora_A", right
        return
    outputs, inputs = matrix.shape
    yield "lora_A", bases.orthonormal(inputs, rank, seed=seed, name=f"{name} A").T.contiguous()
    if settings.train == "R":
        yield "lora_L", bases.orthonormal(outputs, rank, seed=seed, name=f"{name} L")


def _mix_in(mixed: type, layer: nn.Module) -> None:
    """Make a layer one of a subclass of its class, with `mixed` before it."""
    own: Any = type(layer)
    if not issubclass(own, mixed):
        layer.__class__ = type(
            f"{mixed.__name__}{own.__name__}", (mixed, own), {"__module__": own.__module__}
        )
