"""What a task file may say in `[model.adapter]`. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gossip.settings import Settings


class AdapterSettings(Settings):
    """`[model.adapter]`: the network stays as it is, and small factors beside its layers are learnt together."""

    kind: Literal["lora", "r-only", "seed-space"] = Field(
        description="low-rank factors beside the weights of layers; r-only is lora with train = R; seed-space: so many "
        "numbers that move all weights along directions drawn from the run's seed"
    )
    size: int | None = Field(
        None, ge=1, le=1_000_000, description="seed-space: K, how many numbers; default 1024"
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
    start: str | None = Field(
        None,
        description="a folder in PEFT's format whose factors the adapters begin with, equal on all peers; with train = "
        "B or AB",
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
        if self.start is not None and self.train == "R":
            raise ValueError(
                "start has A and B, and train = 'R' learns between two frozen factors of its own; write train = "
                '"B" or "AB"'
            )
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> AdapterSettings:
        if self.kind != "seed-space" and self.size is not None:
            raise ValueError(f"size = {self.size} belongs to kind = 'seed-space', not to '{self.kind}'")
        if self.kind == "seed-space":
            for key, field in type(self).model_fields.items():
                if key not in ("kind", "size") and getattr(self, key) != field.default:
                    raise ValueError(
                        f"{key} = {getattr(self, key)!r} belongs to factors beside layers, and kind = 'seed-space' has "
                        "none; valid keys: kind, size"
                    )
        return self

    @property
    def directions(self) -> int:
        """K of the seed space."""
        return 1024 if self.size is None else self.size

    @property
    def frozen_factors(self) -> tuple[str, ...]:
        """The factors that are equal at all peers and never sent."""
        return {"R": ("lora_A", "lora_L"), "B": ("lora_A",), "AB": ()}[self.train]
