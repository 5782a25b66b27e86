"""How much of a received output layer to take, class by class.

With F1_me[c] and F1_j[c] of own and j's model on own validation samples of the familiar classes c:

    d_j[c]      = θ · |F1_me[c] - F1_j[c]|                                                   θ = 10
    s_j[c]      = +d^(3 + F1_me[c]) where j is better, else -d^(4 + F1_me[c])
    certainty_j = max(0, mean - standard deviation of j's F1 over its φ best classes)
    w_j[c]      = max(0, 10 · sigmoid(max(s_j[c], -100) / 100) - 4) · certainty_j            familiar classes
    wf_j        = max(0, 10 · sigmoid(Σ s_j[c] over the φ best classes / 100) - 4) · certainty_j         foreign ones

A model as good as own has weight `certainty_j` beside own weight 1; one that is worse by a quarter in a class has none
there; one that is much better has nearly six times its certainty. (Verbraeken, de Vos and Pouwelse 2021, with the
constants of the authors' program.)
"""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10.0
GAIN_POWER = 3.0
LOSS_POWER = 4.0
"""A loss is punished one power harder than a gain of the same size is rewarded."""
SCORE_MIN = -100.0
TEMPERATURE = 100.0
SIGMOID_GAIN = 10.0
SIGMOID_OFFSET = 4.0


def f1_scores(predicted: Tensor, y: Tensor, classes: Tensor, *, of: int) -> Tensor:
    """Return F1 per class (n, k), float64, of `n` models' predictions; 0 where a class was never hit.

    Args:
        predicted: class numbers (n, m), over all classes: who shouts a foreign one loses here.
        y: true class numbers (m,).
        classes: those that are asked for, (k,).
        of: how many classes there are.
    """
    models = len(predicted)
    rows = torch.arange(models, device=y.device).unsqueeze(1)
    hits = torch.zeros(models, of, dtype=torch.float64, device=y.device)
    claims = torch.zeros_like(hits)
    ones = torch.ones_like(predicted, dtype=torch.float64)
    claims.index_put_((rows.expand_as(predicted), predicted), ones, accumulate=True)
    right = (predicted == y).to(torch.float64)
    hits.index_put_((rows.expand_as(predicted), y.expand_as(predicted)), right, accumulate=True)
    members = torch.bincount(y, minlength=of).to(torch.float64)
    scores = 2 * hits / (claims + members).clamp(min=1)
    return scores[:, classes]


def scores(mine: Tensor, theirs: Tensor) -> Tensor:
    """Return s (n, k) for own F1 (k,) and that of n models (n, k): float64, from -10^5 to 10^4."""
    d = THETA * (mine - theirs).abs()
    return torch.where(theirs > mine, d ** (GAIN_POWER + mine), -(d ** (LOSS_POWER + mine)))


def best_classes(mine: Tensor, theirs: Tensor, counts: Tensor) -> Tensor:
    """Return which of the classes are each model's φ best, (n, k) bool, for `counts` φ (n,).

    Of classes in which a model is equally good, the one in which own is better counts as the better: names of classes
    then decide nothing.
    """
    by_mine = torch.argsort(mine, descending=True, stable=True)
    order = torch.argsort(theirs[:, by_mine], dim=1, descending=True, stable=True)
    best = torch.arange(theirs.shape[1], device=theirs.device) < counts.unsqueeze(1)
    return torch.zeros_like(best).scatter_(1, by_mine[order], best)


def certainty(theirs: Tensor, best: Tensor) -> Tensor:
    """Return each model's certainty (n,), from 0 to 1: mean less population standard deviation of its best F1."""
    counts = best.sum(1)
    mean = torch.where(best, theirs, 0).sum(1) / counts
    variance = torch.where(best, (theirs - mean.unsqueeze(1)) ** 2, 0).sum(1) / counts
    return (mean - variance.sqrt()).clamp(0, 1)


def weight(score: Tensor, certainty: Tensor) -> Tensor:
    """Return the weight in [0, 6 · certainty] of scores of any size."""
    return (SIGMOID_GAIN * torch.sigmoid(score / TEMPERATURE) - SIGMOID_OFFSET).clamp(min=0) * certainty


def familiar_weights(score: Tensor, certainty: Tensor) -> Tensor:
    """Return w (n, k) for scores (n, k) and certainties (n,)."""
    return weight(score.clamp(min=SCORE_MIN), certainty.unsqueeze(1))


def foreign_weights(score: Tensor, best: Tensor, certainty: Tensor) -> Tensor:
    """Return wf (n,): one weight per model for all classes that it cannot be tested on."""
    return weight(torch.where(best, score, 0).sum(1), certainty)
