"""How much privacy a number of noised steps has spent: Rényi differential privacy of the subsampled Gaussian.

One step that takes each sample with probability q, shortens its gradient to C and adds N(0, σ²C²I) to the sum has, of
integer order a (Mironov, Talwar, Zhang, arXiv 1908.10530, section 3.3; add or remove one sample),

    ε_R(a) = 1/(a - 1) · log Σ_{k=0}^{a} (a over k) (1 - q)^{a-k} q^k e^{k(k-1)/(2σ²)}          q = 1: a/(2σ²)

Orders of steps add up, whatever q and σ each has. T steps are (ε, δ)-private with (Canonne, Kamath, Steinke, NeurIPS
2020, proposition 12)

    ε = min_a [Σ ε_R(a) + log((a - 1)/a) - (log δ + log a)/(a - 1)]

All of it in logarithms and float64. Free of torch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

ORDERS: Array = np.arange(2, 257, dtype=np.float64)
"""The integer orders a over which the bound is the smallest; beyond, only much smaller ε than anybody trains with."""


VARIANCE_MIN = 1e-300
"""Of the noise; with less, 1/σ² is beyond what a float64 holds, and nothing is known to be kept."""


@lru_cache(maxsize=256)
def rdp_of_step(rate: float, noise: float) -> Array:
    """Return ε_R of one step for each of `ORDERS`, (255,).

    Args:
        rate: q in [0, 1], the probability with which a sample is taken.
        noise: σ > 0, in terms of the clipping norm.
    """
    if rate == 0:
        return np.zeros_like(ORDERS)
    if noise**2 < VARIANCE_MIN:
        return np.full_like(ORDERS, np.inf)
    if rate == 1:
        return ORDERS / (2 * noise**2)
    return np.array([_of_order(int(order), rate, noise) for order in ORDERS])


def _of_order(order: int, rate: float, noise: float) -> float:
    k = np.arange(order + 1)
    binomials = _LOG_FACTORIALS[order] - _LOG_FACTORIALS[k] - _LOG_FACTORIALS[order - k]
    terms = binomials + (order - k) * math.log1p(-rate) + k * math.log(rate) + k * (k - 1) / (2 * noise**2)
    largest = float(terms.max())
    return max(0.0, largest + math.log(float(np.exp(terms - largest).sum()))) / (order - 1)


_LOG_FACTORIALS = np.array([math.lgamma(n + 1) for n in range(int(ORDERS[-1]) + 1)])


def epsilon_of(rdp: Array, delta: float) -> float:
    """Return ε for what was spent at each of `ORDERS`, (255,); 0 where nothing was."""
    if not rdp.any():
        return 0.0
    bounds = rdp + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    found = float(bounds.min())
    return math.inf if math.isnan(found) else max(0.0, found)


def epsilon(rate: float, noise: float, steps: int, delta: float) -> float:
    """Return ε of so many equal steps."""
    return epsilon_of(steps * rdp_of_step(rate, noise), delta)
