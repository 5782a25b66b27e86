"""Gradients of many small fully connected networks at once, by hand.

The formula is in `gossip.learning.linear_layers`, which has it for one network. Here all networks go through every
line together, as batched matrix products. That is what `vmap` arrives at too, but without its walk through autograd,
which for such networks takes longer than the arithmetic. The update rule is not repeated here: this is a `Gradient`
for `LocalTraining.step_stacked`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossip.learning.linear_layers import LinearLayer, linear_layers
from gossip.parameters import ParameterSpace
from gossip.privacy.per_sample import factors


class LinearStack:
    """Gradient and logits of n networks of linear layers with ReLU between them, all parameters learned.

    Behind an extractor: of the part of the network that learns.
    """

    def __init__(self, layers: list[LinearLayer]) -> None:
        self._layers = layers

    @classmethod
    def of(cls, module: nn.Module, space: ParameterSpace) -> LinearStack | None:
        """Return the stack for `module`, or `None` where it is made of other layers, too."""
        layers = linear_layers(module, space)
        return None if layers is None else cls(layers)

    @property
    def width(self) -> int:
        """The widest layer, which decides how much memory a sample takes."""
        return max(max(layer.inputs, layer.outputs) for layer in self._layers)

    def gradient(
        self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor, *, into: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients (n, T) at `trained` (n, T), the mean losses (n,), and `rest` as it came.

        `x` is (n, b, *input_shape); `y` (n, b), negative where a sample only pads: such a one counts for nothing.
        `into` (n, T) is the memory for the gradients, else they get their own.
        """
        weights = [self._weight(trained, layer) for layer in self._layers]
        # Inputs of the layers, each (n, b, inputs).
        inputs = [x.flatten(2)]
        for layer, weight in zip(self._layers, weights, strict=True):
            if layer is not self._layers[0]:
                inputs[-1].relu_()
            inputs.append(_affine(trained, layer.bias, 1, inputs[-1], weight.mT))
        loss, delta = _cross_entropy(inputs.pop(), y)
        pieces: list[Tensor] = []
        for layer, weight, given in zip(
            reversed(self._layers), reversed(weights), reversed(inputs), strict=True
        ):
            # In front, because the last layer comes first here: weight before bias, as in the vector.
            bias = [] if layer.bias is None else [delta.sum(1)]
            pieces[:0] = [torch.bmm(delta.mT, given).flatten(1), *bias]
            if layer is not self._layers[0]:
                delta = torch.ops.aten.threshold_backward(torch.bmm(delta, weight), given, 0)
        return torch.cat(pieces, 1, out=into), loss, rest

    def clipped(
        self, trained: Tensor, x: Tensor, y: Tensor, counted: Tensor, clip: float
    ) -> tuple[Tensor, Tensor]:
        """Return the sums (n, T) of single samples' gradients, each shortened to `clip`, and their losses (n, b).

        A sample's gradient is never there as a whole: ‖g_s‖² = Σ_k ‖δ_k,s‖² (‖h_k-1,s‖² + 1), without the 1 where there
        is no bias (Goodfellow, arXiv 1510.01799). See `gossip.privacy.per_sample`.
        """
        weights = [self._weight(trained, layer) for layer in self._layers]
        inputs = [x.flatten(2)]
        for layer, weight in zip(self._layers, weights, strict=True):
            if layer is not self._layers[0]:
                inputs[-1] = inputs[-1].relu()
            inputs.append(_affine(trained, layer.bias, 1, inputs[-1], weight.mT))
        log_p = torch.log_softmax(inputs.pop(), 2)
        label = y.clamp(min=0).unsqueeze(2)
        losses = -log_p.gather(2, label).squeeze(2)  # (n, b)
        delta = log_p.exp().scatter_add(2, label, log_p.new_full((), -1.0).expand(label.shape))
        deltas = [delta]
        for layer, weight, given in zip(self._layers[:0:-1], weights[:0:-1], inputs[:0:-1], strict=True):
            assert layer is not self._layers[0]
            deltas.insert(0, torch.ops.aten.threshold_backward(torch.bmm(deltas[0], weight), given, 0))
        squares = torch.zeros_like(losses)
        for layer, delta, given in zip(self._layers, deltas, inputs, strict=True):
            of_delta = delta.square().sum(2)
            # Of large samples the squares are beyond float32, and the product need not be.
            product = of_delta.double() * (given.double().square().sum(2) + (layer.bias is not None))
            squares += torch.where(
                of_delta > 0, product, of_delta
            )  # what is 0 is 0 beside a square beyond float32, too
        scale = factors(squares, counted, clip)
        good = scale > 0
        pieces: list[Tensor] = []
        for layer, delta, given in zip(self._layers, deltas, inputs, strict=True):
            # What is not finite must not come back as 0 · ∞.
            scaled = torch.where(good[:, :, None], delta, 0.0) * scale[:, :, None]
            finite = torch.where(good[:, :, None], given, 0.0)
            pieces += [
                torch.bmm(scaled.mT, finite).flatten(1),
                *([] if layer.bias is None else [scaled.sum(1)]),
            ]
        return torch.cat(pieces, 1), torch.where(good & losses.isfinite(), losses, 0.0)

    def logits(self, trained: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what makes logits (n, classes, t) of samples (t, …), the same for all networks `trained` (n, T)."""
        first = self._layers[0]
        # Samples last: then the first layer of all networks is a single matrix product.
        weight = self._weight(trained, first).reshape(-1, first.inputs)
        bias = None if first.bias is None else trained[:, first.bias, None]

        def of(x: Tensor) -> Tensor:
            h = torch.mm(weight, x.flatten(1).T).view(len(trained), first.outputs, -1)
            if bias is not None:
                h += bias
            for layer in self._layers[1:]:
                h = _affine(trained, layer.bias, 2, self._weight(trained, layer), h.relu_())
            return h

        return of

    def _weight(self, trained: Tensor, layer: LinearLayer) -> Tensor:
        return trained[:, layer.weight].view(-1, layer.outputs, layer.inputs)


def _affine(trained: Tensor, bias: slice | None, axis: int, a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, plus the bias along the axis that is not `axis`."""
    if bias is None:
        return torch.bmm(a, b)
    return torch.baddbmm(trained[:, bias].unsqueeze(axis), a, b)


def _cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean losses (n,) and their gradient (n, b, classes) by the logits, of the same shape."""
    log_p = torch.log_softmax(logits, 2)
    counted = y >= 0
    label = y.clamp(min=0).unsqueeze(2)
    weight = counted / counted.sum(1, keepdim=True)  # (n, b), rows sum to one
    loss = -(log_p.gather(2, label).squeeze(2) * weight).sum(1)
    delta = log_p.exp_()
    delta.scatter_add_(2, label, delta.new_full((), -1.0).expand(label.shape))
    return loss, delta.mul_(weight.unsqueeze(2))
