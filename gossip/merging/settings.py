"""What a task file may say in `[merge]`. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from gossip.merging.robust.settings import PRE_AGGREGATION_NAMES, ROBUST_RULES, RobustSettings
from gossip.settings import Choice, Seam


class AverageSettings(Choice):
    """The mixing matrix' weighted average: x_i ← Σ_j W_ij x_j. One neighbour that lies can ruin it."""

    implementation = "gossip.merging.average:Average"
    kind: str = "average"


class BristleSettings(Choice):
    """Each received output layer judged class by class on own validation samples."""

    implementation = "gossip.merging.bristle.rule:Bristle"
    kind: str = "bristle"
    exploration: float = Field(
        0.4,
        ge=0,
        le=1,
        description="α: 0 judges the nearest third of the received models only, 1 the farthest",
    )
    budget: int = Field(10, ge=1, description="β: models judged per merge; the work is proportional to it")
    best_classes: int = Field(
        3,
        ge=1,
        description="φ: of how many of its best classes a model's certainty is made, where its sender does not declare "
        "how many the two have in common",
    )
    hardened: bool = Field(
        True,
        description="received layers no longer than own or most others', and foreign classes by the median of those "
        "who declare samples of them, where there are three; off: by one weight per peer, as published",
    )


class VarianceCorrectedSettings(Choice):
    """The weighted average, each tensor then scaled about its mean to the variance of the models that went in."""

    implementation = "gossip.merging.variance_corrected:VarianceCorrected"
    kind: str = "variance-corrected"
    target: Literal["conservative", "others", "self"] = Field(
        "conservative",
        description="whose variance a tensor gets: own and received ones weighted as in the average, "
        "the received ones', or the own",
    )
    over: Literal["mean", "median"] = Field(
        "mean", description="of the variances; the median withstands a minority that lies about its scale"
    )
    ratio: float = Field(1.0, gt=0, le=1, description="strength: scale s becomes 1 + ratio · (s - 1)")
    scale_max: float = Field(
        10.0,
        gt=1,
        description="scales are kept within [1 / this, this]; honest ones within sqrt(models merged)",
    )
    ndim_min: int = Field(2, ge=0, description="tensors with fewer dimensions (biases) are only averaged")
    numel_min: int = Field(9, ge=2, description="tensors with fewer elements are only averaged")
    quiet_scale: float = Field(
        1.02, ge=1, description="a merge whose scales all lie within [1 / this, this] is quiet: models agree"
    )
    quiet_merges: int = Field(
        20,
        ge=0,
        description="after so many quiet merges in a row the correction is off, and from then on looks at every "
        "so-manieth merge only, until one is not quiet; 0: never off",
    )


class ProductSettings(Choice):
    """Adapters of which both factors learn: the averaged product, cut to their rank; all else is averaged."""

    implementation = "gossip.merging.products:Product"
    kind: str = "product"
    gauge: Literal["balanced", "orthonormal"] = Field(
        "balanced",
        description="how singular values are shared: evenly, or all with B, so that A has rows at right angles "
        "(FedSVD); the even split lengthens A, and with it the steps on B",
    )


class LoraFairSettings(Choice):
    """Adapters of which both factors learn: averages, B then corrected to the averaged product."""

    implementation = "gossip.merging.products:LoraFair"
    kind: str = "lora-fair"
    ridge: float = Field(
        0.01,
        gt=0,
        le=1,
        description="λ, in terms of the mean squared length of A's rows: how far the correction is held back",
    )


class MergeSeam(Seam):
    """Merges by kind; a robust rule's may be composed, as in ``nnm+trimmed-mean``: the last name is the rule's."""

    def choice_of(self, kind: str) -> str:
        """Return the registered name that `kind` ends in."""
        rule = kind.rpartition("+")[2]
        if not rule or rule in PRE_AGGREGATION_NAMES:
            wrong = f"{rule} is no rule of its own" if rule else "the rule is missing"
            raise ValueError(
                f"kind = '{kind}': {wrong}; {', '.join(PRE_AGGREGATION_NAMES)} stand before a rule, joined by +, as in "
                "nnm+trimmed-mean"
            )
        if rule == kind or rule not in self or issubclass(self.settings_for(rule), RobustSettings):
            return rule
        raise ValueError(f"kind = '{kind}': nothing can stand before '{rule}', which is no robust rule")


MERGES = MergeSeam(
    "merge",
    AverageSettings,
    BristleSettings,
    VarianceCorrectedSettings,
    ProductSettings,
    LoraFairSettings,
    *ROBUST_RULES,
    group="gossip.merges",
    base="gossip.merging.base:Merge",
)
Merge = Annotated[SerializeAsAny[Choice], BeforeValidator(MERGES.validate)]
