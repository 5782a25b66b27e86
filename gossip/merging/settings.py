"""What a task file may say in `[merge]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from gossip.settings import Choice, Seam


class AverageSettings(Choice):
    """The mixing matrix' weighted average: x_i ← Σ_j W_ij x_j."""

    implementation = "gossip.merging.average:Average"
    kind: str = "average"


MERGES = Seam("merge", AverageSettings)
Merge = Annotated[SerializeAsAny[Choice], BeforeValidator(MERGES.validate)]
