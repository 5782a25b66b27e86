"""What a task file may say in `[local] optimizer`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from gossip.settings import Choice, Seam


class SgdSettings(Choice):
    """Steps against the gradient; with `[local] momentum`, against its heavy-ball momentum."""

    implementation = "gossip.learning.updates.sgd:Sgd"
    kind: str = "sgd"


class AdamWSettings(Choice):
    """AdamW: steps scaled by the gradient's own history; `[local] weight_decay` is decoupled."""

    implementation = "gossip.learning.updates.adamw:AdamW"
    kind: str = "adamw"
    beta1: float = Field(0.9, ge=0, lt=1, description="of the mean of gradients")
    beta2: float = Field(
        0.999, ge=0, lt=1, description="of the mean of their squares; 0.95 where few steps are a round"
    )
    epsilon: float = Field(1e-8, gt=0, description="added to the root of the mean square")
    keep_moments: bool = Field(
        False,
        description="both live on from one local update to the next; for rounds of fifty steps and more",
    )


class QuasiGlobalSettings(Choice):
    """Quasi-global momentum: of what mixing made of the round; for unequal data, without a byte."""

    implementation = "gossip.learning.updates.quasi_global:QuasiGlobal"
    kind: str = "quasi-global"
    slow: float | None = Field(
        None, ge=0, lt=1, description="how much of the old momentum is kept each round; default: as momentum"
    )


class FedProxSettings(Choice):
    """Steps that are pulled back to where the local update began (FedProx)."""

    implementation = "gossip.learning.updates.fedprox:FedProx"
    kind: str = "fedprox"
    proximal: float = Field(
        0.1, gt=0, description="λ, the paper's μ: how strongly; larger: nearer to the start, and slower"
    )


class FedSpeedSettings(Choice):
    """The same with a dual that takes away the bias of being pulled back; for unequal data, without a byte."""

    implementation = "gossip.learning.updates.fedspeed:FedSpeed"
    kind: str = "fedspeed"
    proximal: float = Field(
        0.1,
        gt=0,
        description="λ, the inverse of the paper's; small: what is handed on is far from what was learnt",
    )


class SpsaSettings(Choice):
    """Slopes from two losses, without a backward pass, for `[model.adapter] kind = "seed-space"` (FedKSeed)."""

    implementation = "gossip.learning.updates.spsa:Spsa"
    kind: str = "spsa"
    epsilon: float = Field(
        5e-4, gt=0, description="ε, how far apart the two losses are; larger: less rounding, more curvature"
    )


OPTIMIZERS = Seam(
    "optimizer",
    SgdSettings,
    AdamWSettings,
    QuasiGlobalSettings,
    FedProxSettings,
    FedSpeedSettings,
    SpsaSettings,
    group="gossip.updates",
    base="gossip.learning.updates.base:LocalUpdate",
)
Optimizer = Annotated[SerializeAsAny[Choice], BeforeValidator(OPTIMIZERS.validate)]
