"""What a task file may say in `[outer]`. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from gossip.settings import Settings

MOMENTA: Mapping[str, float] = {"heavy-ball": 0.5, "nesterov": 0.9}
"""Momenta of the kinds that have one, where none is set."""


class OuterSettings(Settings):
    """`[outer]`: a step on what a round as a whole has done, before the next local update."""

    kind: Literal["none", "heavy-ball", "nesterov", "lerp"] = Field(
        "none",
        description="how the next local update begins from what the last one and its merges made: there; with "
        "heavy-ball momentum (NoLoCo), for few neighbours that are others each round; with Nesterov momentum (DiLoCo), "
        "where all models are mixed in a round; or a share of the way there",
    )
    rate: float | None = Field(
        None, gt=0, le=1.4, description="α, how much of a round's displacement is taken; default 0.7"
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="μ, of displacements; default: 0.5 heavy-ball, 0.9 nesterov. With large rates models part",
    )

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> OuterSettings:
        if self.kind == "none":
            for key in ("rate", "momentum"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key} = {getattr(self, key):g} means nothing with kind = 'none'; valid: kind = 'heavy-ball', "
                        f"'nesterov'{' or lerp' * (key == 'rate')}, or leave {key} out"
                    )
        elif self.momentum is not None and self.kind not in MOMENTA:
            raise ValueError(
                f"momentum = {self.momentum:g} means nothing with kind = '{self.kind}', which has none; valid: kind = "
                "'heavy-ball' or 'nesterov', or leave momentum out"
            )
        return self

    @property
    def alpha(self) -> float:
        """The rate that holds."""
        return 0.7 if self.rate is None else self.rate

    @property
    def mu(self) -> float:
        """The momentum that holds."""
        return MOMENTA.get(self.kind, 0.0) if self.momentum is None else self.momentum

    @property
    def nothing(self) -> bool:
        """Whether local updates begin where merging has left the model."""
        return self.kind == "none" or (self.alpha == 1.0 and self.mu == 0.0)


NO_OUTER = OuterSettings()
"""What holds where nothing is set."""
