"""What a task file may say in `[privacy]`. Free of torch. Each peer's own affair: peers need not agree on it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gossip.settings import Settings


class PrivacySettings(Settings):
    """`[privacy]`: differential privacy of single samples, by DP-SGD (Abadi et al., CCS 2016)."""

    kind: Literal["none", "dp-sgd"] = Field(
        "none",
        description="dp-sgd: in each step every sample's gradient is shortened to `clip`, and noise is added to their "
        "sum, so that no model that a peer sends says much of any one sample",
    )
    clip: float = Field(
        1.0,
        gt=0,
        description="C, the largest L2 norm of a sample's gradient: smaller means less noise and a more crooked mean",
    )
    noise: float = Field(
        1.0,
        gt=0,
        description="σ, the noise multiplier: its standard deviation is σ·C in every coordinate of the sum",
    )
    delta: float = Field(
        1e-5,
        gt=0,
        lt=1,
        description="δ, with which the bound ε may fail; well below one over the number of samples",
    )
    epsilon_max: float | None = Field(
        None,
        gt=0,
        description="the budget: a local update that would spend more is not done, and the peer goes on merging "
        "without training; dp-sgd needs one",
    )
    sampling: Literal["poisson"] = Field(
        "poisson",
        description="each step takes every own sample with probability batch_size / samples, by the operating "
        "system's chance: batches vary in size, and may be empty. The bound is for no other sampling",
    )

    @model_validator(mode="after")
    def _a_budget_and_nothing_without(self) -> PrivacySettings:
        if self.kind == "none":
            said = {key: getattr(self, key) for key in ("clip", "noise", "delta", "epsilon_max")}
            for key, value in said.items():
                if value != type(self).model_fields[key].default:
                    raise ValueError(f'{key} = {value:g} belongs to kind = "dp-sgd"; write that, too')
        elif self.epsilon_max is None:
            raise ValueError(
                'epsilon_max is missing: kind = "dp-sgd" needs the ε after which training ends; at most 10 is usual'
            )
        return self

    @property
    def nothing(self) -> bool:
        """Whether no privacy is asked for."""
        return self.kind == "none"


NO_PRIVACY = PrivacySettings()
