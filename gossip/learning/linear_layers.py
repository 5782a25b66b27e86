"""Networks that are nothing but linear layers with ReLU between them, and one such network's gradient without autograd.

For h_0 = x, h_k = relu(W_k h_{k-1} + b_k), and logits without the relu, with softmax p and one-hot label e, each of b
samples weighing 1/b:

    δ_last = (p - e) / b        δ_{k-1} = (W_kᵀ δ_k) ⊙ [h_{k-1} > 0]
    ∂W_k = Σ δ_k h_{k-1}ᵀ       ∂b_k = Σ δ_k

Of a small network autograd's bookkeeping takes longer than the arithmetic. The arithmetic here is that of autograd,
kernel by kernel: what a node learns has the same bits with and without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gossip.learning.extractor import Extracted
from gossip.parameters import ParameterSpace, Role

_MEAN, _IGNORED = 1, -100
"""As torch's kernels of cross-entropy are told: the mean over samples, and the label that counts for nothing."""


class LinearLayer(NamedTuple):
    """One linear layer, and where in the model's vector its parameters are."""

    inputs: int
    outputs: int
    weight: slice
    bias: slice | None


def linear_layers(module: nn.Module, space: ParameterSpace) -> list[LinearLayer] | None:
    """Return the layers of `module`, or `None` where it is anything but Flatten, Linear, (ReLU, Linear)*.

    All parameters must be learned. Behind an extractor: of the part of the network that learns.
    """
    prefix = ""
    if type(module) is Extracted:
        module, prefix = module.head, "head."
    if type(module) is not nn.Sequential or space.learned_size != space.size:
        return None
    if any(slot.role is Role.FROZEN and slot.name.startswith(prefix) for slot in space.slots):
        return None
    if any(slot.aliases for slot in space.slots):
        return None  # tied weights: their gradients would have to be added
    children = list(module.named_children())
    kinds = [type(child) for _, child in children]
    if len(kinds) % 2 or kinds != [nn.Flatten, nn.Linear, *[nn.ReLU, nn.Linear] * (len(kinds) // 2 - 1)]:
        return None
    flatten = module[0]
    if not isinstance(flatten, nn.Flatten) or flatten.start_dim != 1 or flatten.end_dim != -1:
        return None
    if any(_is_altered(each) for each in (module, *module)) or _all_are_observed():
        return None
    layers: list[LinearLayer] = []
    named: list[str] = []
    for name, child in children:
        if isinstance(child, nn.Linear):
            if child.weight.dtype is not torch.float32:
                return None
            weight = space.slot(f"{prefix}{name}.weight")
            bias = None if child.bias is None else space.slot(f"{prefix}{name}.bias")
            named += [weight.name] if bias is None else [weight.name, bias.name]
            layers.append(
                LinearLayer(
                    child.in_features,
                    child.out_features,
                    slice(weight.offset, weight.end),
                    None if bias is None else slice(bias.offset, bias.end),
                )
            )
    if named != [slot.name for slot in space.slots if slot.role is not Role.FROZEN]:
        return None  # somebody has given a layer more than it has, or in another order
    return layers


def _is_altered(module: nn.Module) -> bool:
    """Return whether somebody hooked into the module, or replaced its pass; by hand, nobody would be called."""
    return bool(
        "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _all_are_observed() -> bool:
    """Return whether somebody hooked into all modules of this process."""
    of_all = torch.nn.modules.module
    return bool(
        of_all._global_forward_hooks
        or of_all._global_forward_pre_hooks
        or of_all._global_backward_hooks
        or of_all._global_backward_pre_hooks
    )


class LinearGradient:
    """The gradient of one network of such layers under plain cross-entropy."""

    def __init__(self, layers: Sequence[LinearLayer]) -> None:
        self._biased = [layer.bias is not None for layer in layers]

    @classmethod
    def of(cls, module: nn.Module, space: ParameterSpace) -> LinearGradient | None:
        """Return that of `module`, or `None` where it is made of other layers, too.

        Behind a single unit autograd multiplies the other way round if a mini-batch has one sample: not so here.
        """
        layers = linear_layers(module, space)
        return None if layers is None or any(layer.inputs == 1 for layer in layers[1:]) else cls(layers)

    @torch.no_grad()
    def __call__(self, slots: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss () of a mini-batch and its gradient by slots, in memory of its own.

        Args:
            slots: the weights (outputs, inputs) and biases (outputs,), as they follow each other in the vector.
            x: (b, *input_shape).
            y: labels (b,).
        """
        given = iter(slots)
        layers = [(next(given), next(given) if biased else None) for biased in self._biased]
        inputs = [x.flatten(1)]
        for weight, bias in layers[:-1]:
            inputs.append(linear(inputs[-1], weight, bias).relu_())
        log_p = torch.log_softmax(linear(inputs[-1], *layers[-1]), 1)
        loss, counted = torch.ops.aten.nll_loss_forward.default(log_p, y, None, _MEAN, _IGNORED)
        one = torch.ones_like(loss)
        delta = torch.ops.aten.nll_loss_backward.default(one, log_p, y, None, _MEAN, _IGNORED, counted)
        delta = torch.ops.aten._log_softmax_backward_data.default(delta, log_p, 1, torch.float32)
        gradients: list[Tensor] = []
        for place in reversed(range(len(layers))):
            (weight, bias), given_to = layers[place], inputs.pop()
            if bias is not None:
                gradients.append(delta.sum(0))
            gradients.append(torch.mm(delta.t(), given_to))
            if place:
                delta = torch.ops.aten.threshold_backward.default(torch.mm(delta, weight), given_to, 0)
        gradients.reverse()
        return loss, gradients
