"""The attacks' formulas, on stacks of honest models x (h, L): μ is their mean, σ their sample standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gossip.errors import ProtocolMisuse
from gossip.parameters import ParameterSpace, Role

Direction = Literal["std", "mean", "sign"]

BISECTIONS = 40
"""Halvings of γ: to the rounding of float32."""

FANG_LEAST = 1e-5
"""The λ below which the authors give up."""


def alie_z(peers: int, attackers: int) -> float:
    """Return z = Φ⁻¹((n - f - s)/(n - f)) with s = ⌊n/2 + 1⌋ - f supporters needed (Baruch et al. 2019, eq. 3).

    With so many attackers that they need no supporter, the largest z for which the formula is finite is of one peer.
    """
    honest = peers - attackers
    supporters = math.floor(peers / 2 + 1) - attackers
    share = (honest - supporters) / honest
    return NormalDist().inv_cdf(min(max(share, 1 / (2 * honest)), 1 - 1 / (2 * honest)))


def alie(honest: Tensor, z: float) -> Tensor:
    """Return μ - z·σ, σ over honest peers with h - 1 degrees of freedom (as ByzFL)."""
    return honest.mean(0) - z * _std(honest)


def ipm(honest: Tensor, epsilon: float) -> Tensor:
    """Return -ε·μ (Xie et al. 2020)."""
    return -epsilon * honest.mean(0)


def min_max(honest: Tensor, direction: Direction) -> Tensor:
    """Return μ - γ·p, γ the largest with max_i ‖x̂ - x_i‖ <= max_ij ‖x_i - x_j‖ (Shejwalkar & Houmansadr 2021)."""
    limit = torch.cdist(honest.double(), honest.double()).max()
    return _farthest(
        honest, direction, lambda crafted: (honest - crafted).double().norm(dim=1).max() <= limit
    )


def min_sum(honest: Tensor, direction: Direction) -> Tensor:
    """Return μ - γ·p, γ the largest with Σ_i ‖x̂ - x_i‖² <= max_i Σ_j ‖x_i - x_j‖² (ibid.)."""
    limit = torch.cdist(honest.double(), honest.double()).square().sum(1).max()
    return _farthest(honest, direction, lambda crafted: (honest - crafted).double().square().sum() <= limit)


def fang_krum(honest: Tensor, before: Tensor, attackers: int, *, about: Tensor | None = None) -> Tensor:
    """Return x_Re - λ·s, λ as large as lets Krum choose it (Fang et al. 2020, USENIX Security, section 4.2).

    x_Re is the mean of what the honest peers trained from, s = sign(μ - x_Re) where their learning drives it, 0 where
    it stands still; all c attackers send the same. Krum adds up squared distances to the n - c nearest of n = h + c
    models, itself included, of which c are the attackers' own at distance 0. h - c honest ones are left, each no nearer
    than λ·√d - D(x_l, x_Re), d entries of s being ±1: so no larger λ than

        λ ≤ sqrt( min_i Σ_{l nearest to i} D²(x_l, x_i) / ((h - c) d) ) + max_l D(x_l, x_Re) / √d

    is ever chosen. From there λ is halved until it is, or below 10⁻⁵.

    Args:
        honest: their models (h, L).
        before: x_Re [L].
        attackers: c; with c ≥ h Krum has no say, and h - c counts as one.
        about: instead of x_Re in all but s. Where honest models have moved farther together than they are from each
            other, Krum chooses nothing near x_Re, but something near μ.
    """
    here = honest.double()
    signs = torch.sign(here.mean(0) - before.double())
    back = (before if about is None else about).double()
    moved = math.sqrt(max(1.0, float(signs.abs().sum())))
    others = max(1, len(honest) - attackers)
    between = torch.cdist(here, here).square().sort(dim=1).values
    least = float(between[:, : others + attackers].sum(1).min())
    largest = float((here - back).norm(dim=1).max())
    strength = math.sqrt(least / others) / moved + largest / moved
    while strength > FANG_LEAST:
        away = (here - (back - strength * signs)).square().sum(1)  # (h,)
        score = float(away.sort().values[:others].sum())
        near = torch.cat([between, away[:, None].expand(-1, attackers)], 1).sort(dim=1).values
        if score < float(near[:, : len(honest)].sum(1).min()):
            break
        strength /= 2
    return (back - strength * signs).to(honest.dtype)


def fang_trimmed_mean(honest: Tensor, before: Tensor, b: float, rng: np.random.Generator) -> Tensor:
    """Return values just beyond the honest ones, on the side that their learning moves away from (ibid., section 4.3).

    With s as in `fang_krum`, drawn evenly, for each coordinate and each attacker anew:

        s = +1:  [min / b, min] where min > 0, else [b · min, min]
        s = -1:  [max, b · max] where max > 0, else [max, max / b]

    and the honest mean where s = 0.
    """
    lowest, highest, mean = honest.min(0).values, honest.max(0).values, honest.mean(0)
    signs = torch.sign(mean - before)
    below = torch.where(lowest > 0, lowest / b, lowest * b)
    above = torch.where(highest > 0, highest * b, highest / b)
    near, far = torch.where(signs > 0, lowest, highest), torch.where(signs > 0, below, above)
    drawn = torch.from_numpy(rng.random(len(mean), dtype=np.float32)).to(honest.device, honest.dtype)
    return torch.where(signs == 0, mean, near + drawn * (far - near))


def dissensus(
    victim: Tensor, neighbours: Tensor, weights: Tensor, attackers_weight: float, *, epsilon: float
) -> Tensor:
    """Return x_i - ε · Σ_{j∈H_i} w_ij (x_j - x_i) / Σ_{b∈B_i} w_ib (He, Karimireddy, Jaggi 2022).

    Args:
        victim: x_i [L].
        neighbours: its honest neighbours' models (k, L).
        weights: w_ij (k,).
        attackers_weight: Σ_b w_ib.
        epsilon: ε; at 1 the attackers just cancel what the neighbours say.
    """
    pull = (weights[:, None] * (neighbours - victim)).sum(0)
    return victim - epsilon * pull / attackers_weight


def fiedler_vector(edges: Sequence[tuple[int, int]], peers: Sequence[int]) -> Tensor:
    """Return the Fiedler vector (h,) of the graph on `peers`, of norm one, its entry of greatest modulus positive."""
    place = {peer: k for k, peer in enumerate(peers)}
    laplacian = torch.zeros(len(peers), len(peers), dtype=torch.float64)
    for i, j in edges:
        if i in place and j in place and i != j:
            a, b = place[i], place[j]
            laplacian[a, a] += 1
            laplacian[b, b] += 1
            laplacian[a, b] -= 1
            laplacian[b, a] -= 1
    vector = torch.linalg.eigh(laplacian).eigenvectors[:, min(1, len(peers) - 1)]
    positive: Tensor = vector * torch.sign(vector[vector.abs().argmax()])
    return positive


def spectral(honest: Tensor, place: int, fiedler: Tensor, *, scale: float) -> Tensor:
    """Return x_i + s · v_i · (vᵀX) for the victim at `place` of the honest models (h, L) (Gaucher et al. 2025)."""
    along = fiedler.to(honest.dtype) @ honest
    return honest[place] + scale * float(fiedler[place]) * along


def class_rows(space: ParameterSpace, classes: int) -> list[tuple[int, int, int]]:
    """Return (offset, rows, row length) of the output layer's learned slots: its weight (C, d) and bias (C,).

    Raises:
        ProtocolMisuse: the model ends in nothing of the kind.
    """
    learned = [slot for slot in space.slots_of(Role.LEARNED) if slot.shape and slot.shape[0] == classes]
    weights = [slot for slot in learned if len(slot.shape) >= 2]
    if not weights:
        raise ProtocolMisuse(f"the model has no output layer of {classes} rows")
    owner = weights[-1].name.rpartition(".")[0]
    own = [slot for slot in learned if slot.name.rpartition(".")[0] == owner]
    return [(slot.offset, classes, slot.size // classes) for slot in own]


def permuted_columns(model: Tensor, rows: Sequence[tuple[int, int, int]], classes: Sequence[int]) -> Tensor:
    """Return the model [L] with the columns of `classes` shifted by one among them: each class gets another's."""
    crafted = model.clone()
    ordered = sorted(set(classes))
    if len(ordered) < 2:
        return crafted
    source = torch.tensor(ordered[1:] + ordered[:1])
    for offset, count, width in rows:
        before = model[offset : offset + count * width].view(count, width)
        crafted[offset : offset + count * width].view(count, width)[torch.tensor(ordered)] = before[source]
    return crafted


def worst_parameter(
    damage: Callable[[float], float], *, evaluations: int, low: float = 1e-2, high: float = 1e2
) -> float:
    """Return the parameter in [low, high] that does most damage, by a geometric grid and a search around its best.

    Args:
        damage: ‖F(honest models, attack) - μ‖ for a parameter.
        evaluations: of `damage`, at most.
        low: smallest parameter.
        high: largest.
    """
    coarse = max(3, evaluations // 2)
    ratio = (high / low) ** (1 / (coarse - 1))
    known = {low * ratio**k: damage(low * ratio**k) for k in range(coarse)}
    step = ratio**0.5
    for _ in range((evaluations - coarse) // 2):
        best = _best(known)
        for candidate in (best / step, best * step):
            if candidate not in known and low <= candidate <= high:
                known[candidate] = damage(candidate)
        step **= 0.5
    return _best(known)


def _best(known: Mapping[float, float]) -> float:
    # A rule that is broken altogether is as broken as can be.
    return max(known, key=lambda value: math.inf if math.isnan(known[value]) else known[value])


def _std(honest: Tensor) -> Tensor:
    return honest.std(0) if len(honest) > 1 else torch.zeros_like(honest[0])


def _farthest(honest: Tensor, direction: Direction, allowed: Callable[[Tensor], Tensor | bool]) -> Tensor:
    mean = honest.mean(0)
    match direction:
        case "std":
            pull = _std(honest)
        case "mean":
            pull = mean / mean.norm().clamp_min(1e-30)
        case "sign":
            pull = mean.sign()
    low, high = 0.0, 1.0
    if not float(pull.norm()) > 0:
        return mean
    while bool(allowed(mean - high * pull)) and high < 1e12:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(allowed(mean - middle * pull)) else (low, middle)
    return mean - low * pull
