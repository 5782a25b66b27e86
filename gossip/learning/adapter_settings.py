"""What a task file may say in `[model.adapter]`. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gossip.settings import Settings


class AdapterSettings(Settings):
    """`[model.adapter]`: the network stays as it is, and small factors beside its layers are learnt together."""

    kind: Literal["lora", "r-only"] = Field(
        description="low-rank factors beside the weights of layers; r-only is lora with train = R"
    )
    train: Literal["R", "B", "AB"] = Field(
        "R",
        description="which factors learn, and travel: R between two frozen ones (Fed-SB), rank² numbers a layer; B "
        "with A frozen (FFA-LoRA); or A and B, whose averages are not the average of their products",
    )
    rank: int = Field(
        16,
        ge=1,
        le=4096,
        description="inner dimension, and no more than a layer has; what R and B can reach is fixed by it",
    )
    scale: float = Field(
        2.0, gt=0, description="s in W + s·BA: steps on the factors grow with it (PEFT: lora_alpha / r)"
    )
    targets: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="patterns of names of linear, convolution and embedding layers; default: all linear and "
        "convolution layers but the last linear one",
    )
    bias: bool = Field(True, description="biases of adapted layers learn, too")
    output: bool | None = Field(
        None,
        description="whether the last linear layer, if it is not adapted, learns as a whole; default: unless its "
        "weight is another layer's, too",
    )
    basis: Literal["random", "base"] = Field(
        "random",
        description="train = R: the frozen factors span random directions, or those in which the layer's own weight is "
        "largest, which suit what is like what the base has learnt; B always has a random A",
    )
    dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="of the frozen weights of linear, convolution and embedding layers: bfloat16 takes half the "
        "memory, and their products are made in it; default: as they are. Adapters are float32",
    )

    @model_validator(mode="after")
    def _one_name_for_one_thing(self) -> AdapterSettings:
        if self.kind == "r-only" and self.train != "R":
            raise ValueError(
                f'train = \'{self.train}\' is not kind = "r-only", which is R; write kind = "lora"'
            )
        return self

    @property
    def frozen_factors(self) -> tuple[str, ...]:
        """The factors that are equal at all peers and never sent."""
        return {"R": ("lora_A", "lora_L"), "B": ("lora_A",), "AB": ()}[self.train]
