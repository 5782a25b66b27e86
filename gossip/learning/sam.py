"""Sharpness-aware minimisation: to where a step climbs before it takes the gradient (SAM: Foret et al., ICLR 2021).

Adaptive SAM (Kwon et al., ICML 2021, element-wise, p = 2). A ball around y is no measure of flatness: a network whose
one layer is made a times larger and whose next a times smaller computes the same, and has other losses within the same
ball. With ``[local] sam = "adaptive"`` the ball is measured in the weights' own sizes, T = |y| + η entry by entry:

    δ  = ρ · T² g / (‖T g‖₂ + 1e-12)

With η = 0, y + δ scales as y does, so that the loss there stays what it was. All trained slots are scaled, biases too:
they scale with their layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossip.learning.in_place import NORM_FLOOR, norm_of
from gossip.learning.settings import LocalSettings


def sam_perturbation(g: Tensor, rho: float) -> Tensor:
    """Return SAM's δ = ρ · g / (‖g‖₂ + 1e-12) for gradients [T] or [n, T]: of norm ρ, or zero where g is."""
    return torch.mul(g, rho / (norm_of(g) + NORM_FLOOR))


def asam_perturbation(g: Tensor, w: Tensor, rho: float, eta: float) -> Tensor:
    """Return adaptive SAM's δ = ρ · T² g / (‖T g‖₂ + 1e-12) with T = |w| + η, for g and w [T] or [n, T].

    ‖T⁻¹ δ‖₂ is ρ, or zero where T g is.
    """
    size = w.abs().add_(eta)
    scaled = g * size
    return scaled.mul(size).mul_(rho / (norm_of(scaled) + NORM_FLOOR))


def perturbation(settings: LocalSettings, g: Tensor, w: Tensor) -> Tensor:
    """Return the δ of `[local] sam` for gradients g at the weights w, [T] or [n, T]."""
    if settings.sam == "adaptive":
        return asam_perturbation(g, w, settings.sam_rho, settings.sam_eta)
    return sam_perturbation(g, settings.sam_rho)
