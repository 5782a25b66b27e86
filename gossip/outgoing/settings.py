"""What a task file may say in `[outgoing]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from gossip.settings import Choice, Seam


class NoOutgoingSettings(Choice):
    """Models are sent as they are."""

    implementation = "gossip.outgoing.base:AsItIs"
    kind: str = "none"


class NoiseSettings(Choice):
    """Normal noise on every number of what is sent. No differential privacy: that is `[privacy]`."""

    implementation = "gossip.outgoing.noised:Noised"
    kind: str = "noise"
    std: float = Field(0.01, gt=0, description="standard deviation of the noise, in the weights' own unit")


class ZeroSumNoiseSettings(Choice):
    """Noise that is another for each neighbour, and cancels in their mean. It is for single neighbours only."""

    implementation = "gossip.outgoing.zero_sum:ZeroSum"
    kind: str = "zero-sum-noise"
    std: float = Field(
        0.01,
        gt=0,
        description="standard deviation of what a neighbour sees at least, in the weights' own unit",
    )


OUTGOINGS = Seam(
    "outgoing",
    NoOutgoingSettings,
    NoiseSettings,
    ZeroSumNoiseSettings,
    group="gossip.outgoing",
    base="gossip.outgoing.base:Outgoing",
)
Outgoing = Annotated[SerializeAsAny[Choice], BeforeValidator(OUTGOINGS.validate)]
