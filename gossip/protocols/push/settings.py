"""What a task file may say in `[protocol]` with ``kind = "push"``. Free of torch and of I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gossip.settings import Choice

WALKS = {
    "random-walk": "which trains the latest model that came, whole, and merges nothing",
    "update-merge": "which trains and merges the two models that came last, whole",
}
"""What the variants do that are not the usual one."""


class PushSettings(Choice):
    """Asynchronous gossip learning: each peer trains and pushes on its own period; no rounds in common, no waiting.

    A neighbour that lies pushes to all in each period; against it a robust rule and a memory help, and no average.
    """

    implementation = "gossip.protocols.push.protocol:Push"
    implied: ClassVar[Mapping[str, Any]] = {"variant": "merge-update", "interval_max": 10}
    kind: str = "push"
    period_s: float = Field(
        1.0, gt=0, description="Δ, between wake-ups; one that comes while still training is skipped"
    )
    jitter: float = Field(0.2, ge=0, lt=1, description="a period is Δ · U(1 - jitter, 1 + jitter)")
    start_spread: float = Field(
        1.0,
        ge=0,
        le=1,
        description="the first wake-up comes at a random moment of so much of a period; 0: at once, all in step",
    )
    variant: Literal["merge-update", "update-merge", "random-walk"] = Field(
        "merge-update",
        description="what becomes of a received model: merged with the own one, which is trained then; trained itself, "
        "as the one that came before it, and merged with that (two updates a period); or trained in the own one's "
        "place, and never merged. With merge-update alone a rule can bear a liar",
    )
    fanout: int = Field(
        1, ge=0, le=4096, description="random neighbours that a push goes to; 0: all, degree times the bytes"
    )
    order: Literal["update-then-merge", "merge-then-update"] = Field(
        "update-then-merge", description="what comes first at a wake-up, where merges wait for it"
    )
    merge_when: Literal["wake-up", "received", "full"] = Field(
        "wake-up",
        description="merge what has come at each own wake-up; every model as it comes; or when buffer_rounds · degree "
        "models have come",
    )
    buffer_rounds: int = Field(
        1,
        ge=1,
        le=64,
        description="R of merge_when = full; only the newest model of each sender is merged, and of each at most one a "
        "period counts, but for bursts",
    )
    weighting: Literal["age", "uniform", "rate", "staleness"] = Field(
        "age",
        description="models weigh by their age (local updates contained), or all the same; or so that who "
        "pushes seldom counts as much over time (FedFix); or by 1 / √(1 + u), u the periods that they are behind",
    )
    interval_max: int = Field(
        10, ge=2, le=1000, description="K of weighting = rate: nobody weighs more than so many times as much"
    )
    self_weight: float | None = Field(
        None, ge=0, lt=1, description="β, of the own model in a merge; default: its share like every other's"
    )
    age_limit: int = Field(
        10,
        ge=0,
        le=2**31,
        description="L, in periods: who is so far behind begins anew from others' models, and models so far behind are "
        "left out",
    )
    memory: int = Field(
        0,
        ge=0,
        le=2**31,
        description="M, in own periods: a merge also sees what each other neighbour sent last, if no older than that; "
        "without it robust rules have too few models to choose from unless fanout is 0. Three times degree / fanout or "
        "so; longer: older models, which slow learning down. Costs a model per neighbour in memory",
    )
    witnesses: int = Field(
        2,
        ge=1,
        le=64,
        description="w, neighbours that must say so before an age is believed: one more than may lie; 1 believes "
        "everybody. A peer far behind begins anew from 2 w - 1 models far ahead; where fewer are alive, it follows by "
        "merges only",
    )
    parts: int = Field(
        1,
        ge=1,
        le=4096,
        description="S: a push carries one of so many parts of the model; fewer bytes each, slower news; each part has "
        "its own age and tokens",
    )
    tokens: Literal["proactive", "simple", "generalised", "randomised"] = Field(
        "proactive",
        description="when to push: at every wake-up, or from an account, also in answer to news (Danner and Jelasity)",
    )
    token_reach: int = Field(
        10,
        ge=1,
        le=10_000,
        description="A: so many tokens make one push in answer to news; small: more at once",
    )
    token_capacity: int = Field(
        20, ge=1, le=10_000, description="C, most tokens saved; with so many a wake-up pushes in any case"
    )

    @model_validator(mode="after")
    def _reach_within_capacity(self) -> PushSettings:
        if self.tokens in ("generalised", "randomised") and self.token_reach > self.token_capacity:
            raise ValueError(
                f"token_reach = {self.token_reach} is above token_capacity = {self.token_capacity}"
            )
        return self

    @model_validator(mode="after")
    def _rates_where_they_count(self) -> PushSettings:
        if self.interval_max != 10 and self.weighting != "rate":
            raise ValueError(
                f"interval_max = {self.interval_max} belongs to weighting = 'rate', which is not set"
            )
        if self.weighting in ("rate", "staleness") and self.variant != "merge-update":
            raise ValueError(
                f"weighting = '{self.weighting}' is of merges of all that came, and variant = '{self.variant}' has "
                "none; valid: age, uniform"
            )
        return self

    @model_validator(mode="after")
    def _memory_within_age_limit(self) -> PushSettings:
        if self.memory > self.age_limit:
            raise ValueError(
                f"memory = {self.memory} is above age_limit = {self.age_limit}: what is so far behind is left out"
            )
        return self

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> PushSettings:
        """Refuse what means nothing where models walk."""
        if self.variant == "merge-update":
            return self
        meant_for_merges: tuple[str, ...] = ("memory", "merge_when", "order", "self_weight", "parts")
        if self.variant == "random-walk":
            meant_for_merges += ("weighting",)
        for key in meant_for_merges:
            value, default = getattr(self, key), type(self).model_fields[key].default
            if value != default:
                valid = "nothing" if default is None else repr(default)
                raise ValueError(
                    f"{key} = {value!r} means nothing with variant = '{self.variant}', {WALKS[self.variant]}; "
                    f"valid: {valid}"
                )
        return self

    @property
    def models_to_begin_from(self) -> int:
        """So many that fewer than half are of liars, as long as those are fewer than the witnesses."""
        return 2 * self.witnesses - 1

    def share(self, degree: int) -> float:
        """Return the chance that one of `degree` neighbours, which has as many, pushes here in a period."""
        return min(1.0, self.fanout / degree) if self.fanout and degree else 1.0

    def models_usual(self, degree: int) -> int:
        """Return how many models of others a merge has as a rule: half of all merges, or more, have as many.

        Of each of the neighbours one model, where it pushed here in the periods that a merge looks back on: the number
        is binomial, and its median next to its mean.
        """
        if self.merge_when == "received" and not self.memory:
            return 1
        absent: float = (1 - self.share(degree)) ** self.periods_seen(degree)
        return round(degree * (1 - absent))

    def periods_seen(self, degree: int) -> float:
        """Return how many periods of its neighbours' pushes a merge looks back on, with so many neighbours."""
        periods = float(self.memory)
        if self.merge_when == "wake-up":
            periods += 1
        elif self.merge_when == "full":
            periods += self.buffer_rounds / self.share(degree)
        return periods

    @property
    def why_few(self) -> str:
        """Say which setting keeps merges small."""
        if self.merge_when == "received" and not self.memory:
            return 'it merges every model as it comes (merge_when = "received")'
        return f"each neighbour pushes to {self.fanout or 'all'} in a period (fanout)"
