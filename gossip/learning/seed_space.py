"""The seed space: a model is K numbers, which say how far a base moves along K directions that seeds give.

FedKSeed (Qin, Chen, Qian, Ding, Li and Deng, ICML 2024, arXiv 2312.06353) fine-tunes a large θ_0 by

    θ = θ_0 + Σ_k a_k z_k          z_k ∈ {−1, +1}^T / √T, from the seed of k

and its clients send the K accumulated scalars a_k. Here a is the learned vector itself, and the base is frozen: to
average a is to average models, so every rule, codec and graph acts on a few kilobytes without knowing. ‖θ − θ_0‖ is
about ‖a‖, for directions of so many entries are nearly at right angles.

Signs are the bits of PCG64's raw words, which numpy promises never to change, the lowest bit of a word first: all
machines have the same directions, and nobody sends them. Of a small network they are kept as numbers, of a larger one
as bits, and made numbers a few directions at a time. It is for tuning a good base, where few directions suffice; what
K numbers can reach in a network of random weights is little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossip import seeding
from gossip.errors import SettingError

COEFFICIENTS = "seed_coefficients"
"""Name of the parameter a."""

NUMBERS_MAX = 1 << 24
"""Of K · T, up to which signs are kept as float32: 64 MiB. Also how many are made at a time beyond."""

BITS_MAX = 1 << 34
"""Of K · T: 2 GiB of bits."""


class Signs:
    """The directions z_1 … z_K of length one, in T numbers each.

    Args:
        seed: the run's.
        count: K.
        length: T.
    """

    def __init__(self, *, seed: int, count: int, length: int) -> None:
        self.count, self.length = count, length
        words = -(-length // 64)
        bits = np.empty((count, 8 * words), dtype=np.uint8)
        for k in range(count):
            raw = seeding.generator(seed, "seed-space", round=k).bit_generator.random_raw(words)
            bits[k] = np.asarray(raw, dtype="<u8").view(np.uint8)
        self._bits = bits
        self._kept: Tensor | None = None
        if count * length <= NUMBERS_MAX:
            self._kept = self._made(slice(0, count))

    def __deepcopy__(self, memo: Any) -> Signs:
        """Share them: they never change."""
        return self

    def moved(self, coefficients: Tensor) -> Tensor:
        """Return Σ_k a_k z_k (T,) of a (K,)."""
        return _Moved.apply(coefficients, self)  # type: ignore[no-any-return,no-untyped-call]

    def sum(self, coefficients: Tensor) -> Tensor:
        """Return the same, without a way back."""
        total = coefficients.new_zeros(self.length)
        for part, directions in self._directions(coefficients.device):
            total = total + coefficients[part] @ directions
        return total

    def products(self, vector: Tensor) -> Tensor:
        """Return ⟨z_k, vector⟩ (K,) of a vector (T,)."""
        return torch.cat([directions @ vector for _, directions in self._directions(vector.device)])

    def _directions(self, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
        if self._kept is not None:
            if self._kept.device != device:
                self._kept = self._kept.to(device)
            yield slice(0, self.count), self._kept
            return
        rows = max(1, NUMBERS_MAX // self.length)
        for start in range(0, self.count, rows):
            part = slice(start, min(start + rows, self.count))
            yield part, self._made(part).to(device)

    def _made(self, part: slice) -> Tensor:
        """Return directions (k, T) float32 of their bits: 1 is +, 0 is −."""
        ones = np.unpackbits(self._bits[part], axis=1, count=self.length, bitorder="little")
        return (torch.from_numpy(ones).to(torch.float32) * 2 - 1) / math.sqrt(self.length)


class _Moved(torch.autograd.Function):
    """The sum, whose way back makes the directions again instead of keeping them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(coefficients: Tensor, signs: Signs) -> Tensor:
        return signs.sum(coefficients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Signs], output: Tensor) -> None:
        ctx.signs = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.signs.products(gradient), None


class SeedSpace:
    """A network in its seed space. Mixed in before the network's class; its own tensors are those of θ_0, frozen."""

    seed_coefficients: Tensor  # (K,)
    seed_signs: Signs
    seed_moved: list[str]
    """The names of the parameters that move, in their order in z."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network makes of its inputs at θ."""
        with self.seed_moving():
            return super().forward(*inputs, **named)  # type: ignore[misc]

    @contextmanager
    def seed_moving(self) -> Iterator[None]:
        """Let the network hold θ in the place of θ_0."""
        move = self.seed_signs.moved(self.seed_coefficients)
        held: list[tuple[dict[str, Any], str, Any]] = []
        start = 0
        try:
            for name in self.seed_moved:
                owner, _, key = name.rpartition(".")
                table: dict[str, Any] = self.get_submodule(owner)._parameters  # type: ignore[attr-defined]
                base = table[key]
                held.append((table, key, base))
                table[key] = base + move[start : start + base.numel()].view(base.shape)
                start += base.numel()
            yield
        finally:
            for table, key, base in held:
                table[key] = base


def put_into(network: nn.Module, *, size: int, seed: int, like: nn.Module | None = None) -> None:
    """Make `network` one in its seed space, in place; a = 0 is the network as it is.

    Args:
        network: with the weights of θ_0.
        size: K.
        seed: the run's.
        like: a network that was put into the same space before, whose directions are shared.

    Raises:
        SettingError: it has tied or other weights that cannot move, or the directions would be too many.
    """
    moved = [name for name, parameter in network.named_parameters() if parameter.dtype is torch.float32]
    length = sum(network.get_parameter(name).numel() for name in moved)
    if not length:
        raise SettingError("[model.adapter] kind = 'seed-space' finds no float32 parameters to move")
    if any(isinstance(layer, nn.RNNBase) for layer in network.modules()):
        raise SettingError(
            "[model.adapter] kind = 'seed-space' moves weights for each pass, and recurrent layers hold them "
            "elsewhere; valid: kind = 'lora'"
        )
    if len(list(network.named_parameters(remove_duplicate=False))) > len(list(network.named_parameters())):
        raise SettingError(
            "[model.adapter] kind = 'seed-space' moves each tensor once, and the network ties some; valid: "
            "kind = 'lora'"
        )
    if size * length > BITS_MAX:
        raise SettingError(
            f"[model.adapter] size = {size}: its directions in {length} numbers would take "
            f"{size * length / 8 / 2**30:.1f} GiB; valid here: at most {BITS_MAX // length}"
        )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    own: Any = type(network)
    network.__class__ = type(f"SeedSpace{own.__name__}", (SeedSpace, own), {"__module__": own.__module__})
    network.register_parameter(COEFFICIENTS, nn.Parameter(torch.zeros(size)))
    space: Any = network
    space.seed_moved = moved
    space.seed_signs = (
        like.seed_signs if isinstance(like, SeedSpace) else Signs(seed=seed, count=size, length=length)
    )
