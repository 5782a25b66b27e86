"""Averages of products of factors: for adapters of which both factors learn, `[model.adapter] train = "AB"`.

A peer's adapter of a layer is B_j A_j, and mean(B)·mean(A) is not mean(BA). Every pair of learned slots ``NAME.lora_A``
(r, n) and ``NAME.lora_B`` (m, r) is merged as what it multiplies to; all else is averaged.

`Product`. Stacked factors are the exact sum, as in FLoRA (Wang et al., NeurIPS 2024), and of that the best
approximation of rank r is taken, without forming m × n:

    S_B = [B_1 … B_p],  S_A = [w_1 A_1; …; w_p A_p]        Σ_j w_j B_j A_j = S_B S_A; a weight on one factor only
    S_B = Q_1 R_1,  S_Aᵀ = Q_2 R_2,  R_1 R_2ᵀ = U Σ Vᵀ
    B = Q_1 U_r Σ_r^½,  A = Σ_r^½ V_rᵀ Q_2ᵀ                   gauge = "balanced"
    B = Q_1 U_r Σ_r,    A = V_rᵀ Q_2ᵀ                        gauge = "orthonormal", FedSVD's (Lee et al. 2025)

What is left is a rotation of the r inner dimensions; A is turned to be nearest to the averaged A, so that factors of
peers that agree stay near each other, too.

`LoraFair`. Both factors are averaged, and B corrected to what the product should be (LoRA-FAIR, Bian et al. 2024; there
by gradient steps), in closed form:

    ΔB = (Σ_j w_j B_j A_j Āᵀ - B̄ Ā Āᵀ) (Ā Āᵀ + λI)⁻¹
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.merging.average import Average
from gossip.merging.base import Merge, MergeContext
from gossip.merging.settings import LoraFairSettings, ProductSettings
from gossip.parameters import ParameterSpace, Role, Slot
from gossip.protocols.base import Contribution


class Pair(NamedTuple):
    """The two factors of a layer, by their slots."""

    first: Slot  # A (r, n)
    second: Slot  # B (m, r)

    def of(self, model: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (r, n) and B (m, r) of `model` [L], in float64."""
        first, second = (model[slot.offset : slot.end].view(slot.shape).double() for slot in self)
        return first, second

    def put(self, model: Tensor, first: Tensor, second: Tensor) -> None:
        """Write A and B into `model` [L]."""
        for slot, value in zip(self, (first, second), strict=True):
            model[slot.offset : slot.end] = value.to(model.dtype).reshape(-1)


def pairs_of(space: ParameterSpace) -> list[Pair]:
    """Return the pairs of learned slots called NAME.lora_A and NAME.lora_B."""
    learned = {slot.name: slot for slot in space.slots_of(Role.LEARNED)}
    found = []
    for name, slot in learned.items():
        owner, _, factor = name.rpartition("lora_A")
        other = learned.get(f"{owner}lora_B")
        if not factor and name.endswith("lora_A") and other is not None:
            found.append(Pair(slot, other))
    return found


class _OfPairs(Merge):
    """The average, but for pairs of factors."""

    retains = False

    def __init__(self, settings: ProductSettings | LoraFairSettings) -> None:
        super().__init__(settings)
        self._average = Average()
        self._pairs: tuple[ParameterSpace, list[Pair]] | None = None

    def check(self, space: ParameterSpace) -> None:
        """Raise `SettingError` where no pair is learned."""
        if not pairs_of(space):
            raise SettingError(
                f"[merge] kind = '{self.settings.kind}' merges pairs of factors, and the network learns none; it is "
                "for [model.adapter] train = 'AB', and kind = 'average' is exact for the others"
            )

    def __call__(
        self, own: Tensor, own_weight: float, received: Sequence[Contribution], *, context: MergeContext
    ) -> Tensor:
        """Return the merged learned slots [L]; see `Merge`."""
        merged = self._average(own, own_weight, received)
        weighed = [(own_weight, own), *((each.weight, each.model) for each in received)]
        weighed = [(weight, model) for weight, model in weighed if weight]
        if len(weighed) < 2:
            return merged
        if self._pairs is None or self._pairs[0] is not context.space:
            self._pairs = context.space, pairs_of(context.space)
        for pair in self._pairs[1]:
            weights = [weight for weight, _ in weighed]
            factors = [pair.of(model) for _, model in weighed]
            if not all(_fits(factor) for both in factors for factor in both):
                continue  # there is no product of what is not finite, and averages say so to whoever watches
            first, second = self.merged(weights, factors, pair.of(merged))
            if _fits(first) and _fits(second):
                pair.put(merged, first, second)
        return merged

    @abc.abstractmethod
    def merged(
        self, weights: Sequence[float], factors: Sequence[tuple[Tensor, Tensor]], mean: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return A (r, n) and B (m, r) for those of own and received models and their averages, all float64."""


def _fits(factor: Tensor) -> bool:
    """Return whether all numbers of a factor are finite in float32."""
    return bool((factor.abs() <= torch.finfo(torch.float32).max).all())  # false for NaN, too


class Product(_OfPairs):
    """The best approximation of rank r of the averaged product."""

    def merged(
        self, weights: Sequence[float], factors: Sequence[tuple[Tensor, Tensor]], mean: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return A (r, n) and B (m, r); see the module."""
        rank = len(mean[0])
        q_1, r_1 = torch.linalg.qr(torch.cat([second for _, second in factors], 1))
        stacked = torch.cat([weight * first for weight, (first, _) in zip(weights, factors, strict=True)])
        q_2, r_2 = torch.linalg.qr(stacked.T)
        u, values, vt = torch.linalg.svd(r_1 @ r_2.T, full_matrices=False)
        u, values, vt = u[:, :rank], values[:rank], vt[:rank]
        share = values.sqrt() if self.settings.gauge == "balanced" else torch.ones_like(values)
        first = share[:, None] * (vt @ q_2.T)
        second = q_1 @ (u * (values / share.clamp_min(torch.finfo(values.dtype).tiny)))
        left, _, right = torch.linalg.svd(
            mean[0] @ first.T
        )  # the orthogonal O that brings O·A nearest to the mean
        turn = left @ right
        return turn @ first, second @ turn.T


class LoraFair(_OfPairs):
    """Averaged factors, B corrected to the averaged product."""

    def merged(
        self, weights: Sequence[float], factors: Sequence[tuple[Tensor, Tensor]], mean: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return A (r, n) and B (m, r); see the module."""
        first, second = mean
        gram = first @ first.T
        seen = torch.zeros_like(second)
        for weight, (a, b) in zip(weights, factors, strict=True):
            seen += weight * b @ (a @ first.T)
        ridge = self.settings.ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        if not bool(gram.any()):
            return first, second
        return first, second + torch.linalg.solve(gram + ridge, (seen - second @ gram).T).T
