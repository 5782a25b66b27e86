"""What a task file may say in `[merge]` for the robust rules, and the names they are composed of. Free of torch."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field, model_validator

from gossip.errors import SettingError, nearest
from gossip.settings import Choice

PRE_AGGREGATION_NAMES = ("nnm", "bucketing", "clipping", "arc")
"""What may stand before a rule, joined by `+` and applied from left to right: nnm+trimmed-mean."""
NEED_F = frozenset({"nnm", "arc"})
AVERAGING = frozenset({"nnm", "bucketing"})
"""Behind these a row is the mean of several models."""
SUBSETS_MAX = 10_000
"""Rules that try all sets of n - f models try no more, in a fraction of a second: 20 with f = 4, or 16 with f = 6."""


class RobustSettings(Choice):
    """A robust rule, perhaps behind pre-aggregations: ``kind = "nnm+trimmed-mean"``."""

    needs_f: ClassVar[bool] = False
    """Whether the rule itself cannot do without f."""
    tries_subsets: ClassVar[bool] = False
    """Whether it tries all sets of n - f models."""
    takes: ClassVar[tuple[str, ...]] = PRE_AGGREGATION_NAMES
    """Pre-aggregations that may stand before the rule."""

    averages_two: ClassVar[bool] = False
    """Of two models it makes their mean, unless f tells it to make nothing of so few."""
    takes_one_row: ClassVar[bool] = False
    """Its result is one of its rows."""

    f: int | None = Field(
        None,
        ge=0,
        description="how many of the models of one merge, own included, may be Byzantine: 2f < n; too small: attackers "
        "count, too large: honest models are lost; with a rule that works without it only: no merge while 2f >= n",
    )
    bucket_size: int = Field(
        2, ge=2, le=1024, description="s, models per bucket, for bucketing; keep s ≤ n/2f"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="for clipping: differences from the own model are shortened to this norm"
    )

    @property
    def pre_aggregations(self) -> tuple[str, ...]:
        """The names before the rule's, from left to right."""
        return tuple(self.kind.split("+")[:-1])

    @property
    def models_min(self) -> int:
        """How many models a merge must have, own included, for f to be bearable: 2f < n after bucketing."""
        groups = 2 * (self.f or 0)
        return groups * int(self.bucket_size ** self.pre_aggregations.count("bucketing")) + 1

    @property
    def takes_one_model(self) -> bool:
        """Whether a merge gives up what averaging gains: its result is what a single peer sent."""
        return self.takes_one_row and not AVERAGING.intersection(self.pre_aggregations)

    @property
    def keeps_own(self) -> bool:
        """Whether a share of the own model is in every result, whatever the rule chooses."""
        return False

    @model_validator(mode="after")
    def _composition_makes_sense(self) -> RobustSettings:
        names = self.pre_aggregations
        rule = self.kind.split("+")[-1]
        for name in names:
            if name not in PRE_AGGREGATION_NAMES:
                raise ValueError(
                    f"kind = '{self.kind}': unknown pre-aggregation '{name}'; {nearest(name, PRE_AGGREGATION_NAMES)}"
                )
            if name not in self.takes:
                valid = ", ".join(self.takes) or "none at all"
                raise ValueError(
                    f"kind = '{self.kind}': {rule} needs the models as their peers sent them, not behind {name}; "
                    f"valid before {rule}: {valid}"
                )
        for name in (*names, rule):
            if self.f is None and (name in NEED_F or (name == rule and self.needs_f)):
                raise ValueError(
                    f"kind = '{self.kind}': 'f' is missing: {name} must be told how many models may be Byzantine"
                )
        if "clipping" in names and self.clip_norm is None:
            raise ValueError(
                f"kind = '{self.kind}': 'clip_norm' is missing, the norm to shorten differences to"
            )
        for key, name in (("bucket_size", "bucketing"), ("clip_norm", "clipping")):
            if name not in names and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for {name}; kind = '{self.kind}' has none")
        return self


class MedianSettings(RobustSettings):
    """Coordinate-wise median."""

    implementation = "gossip.merging.robust.coordinatewise:Median"
    averages_two = True
    kind: str = "median"


class TrimmedMeanSettings(RobustSettings):
    """Coordinate-wise trimmed mean."""

    implementation = "gossip.merging.robust.coordinatewise:TrimmedMean"
    needs_f = True
    kind: str = "trimmed-mean"


class MeamedSettings(RobustSettings):
    """Coordinate-wise mean around the median."""

    implementation = "gossip.merging.robust.coordinatewise:Meamed"
    needs_f = True
    kind: str = "meamed"


class KrumSettings(RobustSettings):
    """Krum."""

    implementation = "gossip.merging.robust.krum:Krum"
    needs_f = True
    takes_one_row = True
    kind: str = "krum"
    own_share: float = Field(
        0.0, ge=0, lt=1, description="of own in the result; Krum's one model takes the rest"
    )

    @property
    def keeps_own(self) -> bool:
        """See `RobustSettings`."""
        return self.own_share > 0


class MultiKrumSettings(RobustSettings):
    """Multi-Krum."""

    implementation = "gossip.merging.robust.krum:MultiKrum"
    needs_f = True
    kind: str = "multi-krum"


class GeometricMedianSettings(RobustSettings):
    """Geometric median."""

    implementation = "gossip.merging.robust.geometric_median:GeometricMedian"
    averages_two = True
    kind: str = "geometric-median"
    nu: float = Field(
        1e-6,
        gt=0,
        le=1,
        description="ν, smoothing in units of the median distance from the most central model",
    )


class CenteredClippingSettings(RobustSettings):
    """Centred clipping."""

    implementation = "gossip.merging.robust.clipping:CenteredClipping"
    kind: str = "centered-clipping"
    tau: float = Field(
        gt=0, description="τ, the longest difference that counts in full; about the honest models' distance"
    )
    iterations: int = Field(1, ge=1, le=1000, description="L")


class SelfCenteredClippingSettings(RobustSettings):
    """Self-centred clipping, ClippedGossip."""

    implementation = "gossip.merging.robust.clipping:SelfCenteredClipping"
    takes = ("nnm", "clipping", "arc")
    kind: str = "self-centered-clipping"
    tau: float | None = Field(
        None, gt=0, description="τ, the longest difference that counts in full; default: adaptive, from f"
    )

    @model_validator(mode="after")
    def _reach_is_known(self) -> SelfCenteredClippingSettings:
        if self.tau is None and self.f is None:
            raise ValueError(
                f"kind = '{self.kind}' needs tau, the longest difference that counts in full, or f to find one"
            )
        return self


class NearestNeighbourAveragingSettings(RobustSettings):
    """Nearest-neighbour averaging, MoNNA's rule."""

    implementation = "gossip.merging.robust.nearest:NearestNeighbourAveraging"
    needs_f = True
    takes = ("nnm", "clipping", "arc")
    kind: str = "nna"


class MonnaSettings(NearestNeighbourAveragingSettings):
    """The same under ByzFL's name."""

    kind: str = "monna"


class ClippedSumSettings(RobustSettings):
    """CS+."""

    implementation = "gossip.merging.robust.clipping:ClippedSum"
    needs_f = True
    takes = ("nnm", "clipping", "arc")
    kind: str = "cs-plus"
    eta: float = Field(1.0, gt=0, le=1, description="η, step size of the gossip step")


class UbarSettings(RobustSettings):
    """UBAR."""

    implementation = "gossip.merging.robust.nearest:Ubar"
    takes = ()
    kind: str = "ubar"
    rho: float = Field(
        0.5, gt=0, le=1, description="ρ, share of the received models, the nearest, that are tried"
    )
    alpha: float = Field(0.5, ge=0, le=1, description="α, share of the own model in the result")
    samples: int = Field(100, ge=1, description="own samples on which losses are compared")

    @model_validator(mode="after")
    def _asks_samples_and_counts_nobody(self) -> UbarSettings:
        if self.f is not None:
            raise ValueError(
                f"f = {self.f}: {self.kind} judges by own samples however many models lie; leave f out (rho says how "
                "many are tried)"
            )
        return self


class MoziSettings(UbarSettings):
    """The same under its earlier name."""

    kind: str = "mozi"


class MinimumDiameterSettings(RobustSettings):
    """Minimum-diameter averaging, MDA."""

    implementation = "gossip.merging.robust.minimum_diameter:MinimumDiameterAveraging"
    needs_f = True
    tries_subsets = True
    kind: str = "mda"


class SmallestEigenvalueSettings(RobustSettings):
    """Smallest-maximum-eigenvalue averaging, SMEA."""

    implementation = "gossip.merging.robust.smallest_eigenvalue:SmallestMaximumEigenvalueAveraging"
    needs_f = True
    tries_subsets = True
    kind: str = "smea"


class CovarianceFilterSettings(RobustSettings):
    """CAF, the covariance-bound agnostic filter."""

    implementation = "gossip.merging.robust.covariance_filter:CovarianceFilter"
    needs_f = True
    kind: str = "caf"


class OutlierScissorSettings(RobustSettings):
    """IOS, the iterative outlier scissor."""

    implementation = "gossip.merging.robust.outlier_scissor:IterativeOutlierScissor"
    needs_f = True
    takes = ("nnm", "clipping", "arc")
    kind: str = "ios"


class BalanceSettings(RobustSettings):
    """BALANCE."""

    implementation = "gossip.merging.robust.balance:Balance"
    takes = ()
    kind: str = "balance"
    gamma: float = Field(
        0.3, gt=0, description="γ, how far a model may be in the first round, as a share of own's length"
    )
    kappa: float = Field(
        1.0, ge=0, description="κ: in the last round it may be exp(-κ) times as far; 0: as far all the time"
    )
    horizon: int = Field(
        ge=1, description="T, the round from which on the distance shrinks no more: usually [stop] rounds"
    )
    alpha: float = Field(0.5, ge=0, le=1, description="α, share of the own model in the result")


ROBUST_RULES: tuple[type[RobustSettings], ...] = (
    MedianSettings,
    TrimmedMeanSettings,
    MeamedSettings,
    KrumSettings,
    MultiKrumSettings,
    GeometricMedianSettings,
    CenteredClippingSettings,
    SelfCenteredClippingSettings,
    NearestNeighbourAveragingSettings,
    MonnaSettings,
    ClippedSumSettings,
    UbarSettings,
    MoziSettings,
    MinimumDiameterSettings,
    SmallestEigenvalueSettings,
    CovarianceFilterSettings,
    OutlierScissorSettings,
    BalanceSettings,
)


def check_models(merge: Choice, models: int, *, where: str) -> None:
    """Raise `SettingError` where f is too large for the `models` that a merge will have at most, own included."""
    if isinstance(merge, RobustSettings) and models < merge.models_min:
        raise SettingError(
            f"f = {merge.f} with kind = '{merge.kind}' needs at least {merge.models_min} models in a merge, "
            f"own included; {where} has {models}"
        )


def check_subsets(merge: Choice, models: int, *, where: str) -> None:
    """Raise `SettingError` where the rule had to try too many subsets of the `models` that a merge may have."""
    if not isinstance(merge, RobustSettings) or not merge.tries_subsets:
        return
    for _ in range(merge.pre_aggregations.count("bucketing")):
        models = -(-models // merge.bucket_size)
    f = merge.f or 0
    if 2 * f < models and math.comb(models, f) > SUBSETS_MAX:
        raise SettingError(
            f"kind = '{merge.kind}' tries every way to leave out f = {f} of n = {models} models, and {where} has "
            f"{math.comb(models, f)} of them; at most {SUBSETS_MAX}: a smaller f, fewer neighbours, or caf, which "
            "tries none"
        )
