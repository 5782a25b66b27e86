"""What a task file may say in `[merge]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from gossip.merging.robust.settings import ROBUST_RULES, RobustSettings
from gossip.settings import Choice, Seam


class AverageSettings(Choice):
    """The mixing matrix' weighted average: x_i ← Σ_j W_ij x_j."""

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
        3, ge=1, description="φ: of how many of its best classes a model's certainty is made"
    )
    hardened: bool = Field(
        True,
        description="foreign classes by the median of those who declare samples of them, where there are three; "
        "off: by one weight per peer, as published",
    )


class MergeSeam(Seam):
    """Merges by kind; a robust rule's may be composed, as in ``nnm+trimmed-mean``: the last name is the rule's."""

    def choice_of(self, kind: str) -> str:
        """Return the registered name that `kind` ends in."""
        rule = kind.rpartition("+")[2]
        if rule == kind or rule not in self or issubclass(self.settings_for(rule), RobustSettings):
            return rule
        raise ValueError(f"kind = '{kind}': nothing can stand before '{rule}', which is no robust rule")


MERGES = MergeSeam("merge", AverageSettings, BristleSettings, *ROBUST_RULES)
Merge = Annotated[SerializeAsAny[Choice], BeforeValidator(MERGES.validate)]
