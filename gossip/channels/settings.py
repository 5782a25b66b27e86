"""What a task file may say in `[channel]`. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gossip.settings import Settings

MEASURED = ("prototype_accuracy", "prototype_classes")
"""What a measurement says of a table: the nearest prototype's accuracy, and how many classes have one."""


class ChannelSettings(Settings):
    """`[channel]`: what travels beside the models. A closed list: the sums in it are read by ours alone."""

    kind: Literal["none", "prototypes"] = Field(
        "none",
        description="prototypes: a table of each class' mean sample, as the network takes samples, of all peers; so "
        "classes that only others have can be told without training, by the nearest mean",
    )
    every: int = Field(
        10,
        ge=1,
        description="rounds between tables: news travels a neighbour further each time; larger: fewer messages",
    )

    @model_validator(mode="after")
    def _something_to_send(self) -> ChannelSettings:
        if self.nothing and self.every != 10:
            raise ValueError(f"every = {self.every} belongs to kind = 'prototypes', which is not set")
        return self

    @property
    def nothing(self) -> bool:
        """Whether models travel alone."""
        return self.kind == "none"


NO_CHANNEL = ChannelSettings()
