"""What a task file may say in `[codec]`. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from gossip.settings import Choice, Seam


class Float32Settings(Choice):
    """The learned slots as they are: 4 bytes a parameter, no copy."""

    implementation = "gossip.wire.codecs.float32:Float32"
    kind: str = "float32"


class Float16Settings(Choice):
    """2 bytes a parameter, 11 significant bits, up to 65 504: for weights of order one."""

    implementation = "gossip.wire.codecs.halves:Float16"
    kind: str = "float16"


class BFloat16Settings(Choice):
    """2 bytes a parameter, 8 significant bits, float32's range."""

    implementation = "gossip.wire.codecs.halves:BFloat16"
    kind: str = "bfloat16"


class BlockSettings(Choice):
    """Codes of few bits, and a scale for each block of consecutive numbers."""

    block: int = Field(
        256,
        ge=8,
        le=65_536,
        description="numbers that share a scale, even; larger: fewer scales, and coarser steps between the codes",
    )
    rounding: Literal["stochastic", "nearest"] = Field(
        "stochastic",
        description="stochastic: up or down so that the expected value is the number; nearest: half the largest error, "
        "and what changes by less than half a step in a round is never heard of",
    )

    own: Literal["exact", "coded"] = Field(
        "exact",
        description="protocol 'rounds': which own model is mixed with the received ones. exact: as it is; coded: as "
        "the others hold it, and what mixing changed is added to the own: the mean of all models is kept whatever the "
        "codes lose, but own losses stay, where exact averages them away",
    )

    compress: Literal["none", "zstd"] = Field(
        "none",
        description="zstd: the codes are sent compressed, without loss: some percent fewer bytes, many where numbers "
        "are alike; takes pip install 'gossip-node[compress]'",
    )

    @field_validator("block")
    @classmethod
    def _even(cls, block: int) -> int:
        if block % 2:
            raise ValueError(f"must be even, as is {block + 1}")
        return block


class Int8Settings(BlockSettings):
    """One byte a parameter and a scale for each block: as good as float32 at a quarter of its bytes."""

    implementation = "gossip.wire.codecs.blocks:Int8"
    kind: str = "int8"


class Int4Settings(BlockSettings):
    """Half a byte a parameter and a scale for each block: a seventh of float32's bytes, and models agree less."""

    implementation = "gossip.wire.codecs.blocks:Int4"
    kind: str = "int4"
    block: int = Field(64, ge=8, le=65_536, description=BlockSettings.model_fields["block"].description)

    @model_validator(mode="after")
    def _moves(self) -> Int4Settings:
        if self.rounding == "nearest" and self.own == "exact":
            raise ValueError(
                "rounding = 'nearest' with 4 bits freezes what moves less than half a step in a round, unless what the "
                "others hold of the own model is mixed; valid: rounding = 'stochastic', or own = 'coded' with it"
            )
        return self


class TopChangeSettings(Choice):
    """What has changed most since it was last sent, with its places; receivers fill in their own. The mean of all
    models is not kept. A first model and one to a newcomer go whole."""

    implementation = "gossip.wire.codecs.top_change:TopChange"
    kind: str = "top-change"
    share: float = Field(
        0.25, ge=1 / 1024, le=1 / 2, description="of each 4096 numbers so many travel; smaller: later news"
    )
    values: Literal["float32", "float16", "int8"] = Field(
        "float32", description="what travels of each: 4 bytes, 2 or 1, beside a bit for its place"
    )


class ChocoSettings(Choice):
    """What has changed against public copies that both ends of a link hold: as good as float32 at int4's bytes, where
    graph and links stay. Protocol 'rounds', a graph that does not change, average. Memory: a model for each neighbour
    and one's own."""

    implementation = "gossip.wire.codecs.choco:Choco"
    kind: str = "choco"
    compress: Literal["int4", "int8", "top"] = Field(
        "int4", description="of the changes: int4 or int8 in blocks, or the largest with their places"
    )
    share: float = Field(
        0.1, ge=1 / 1024, le=1 / 2, description="compress = 'top': of each 4096 changes so many travel"
    )
    gamma: float | None = Field(
        None,
        gt=0,
        description="γ, by how much of what mixing changes models move: at most 1, which is the default; with compress "
        "= 'top' at most the smaller of 0.7 and 7 · share, default half of that, at which even changes that are spread "
        "evenly come together",
    )

    @property
    def gamma_max(self) -> float:
        """What the compression bears."""
        return min(0.7, 7 * self.share) if self.compress == "top" else 1.0

    @property
    def rate(self) -> float:
        """γ."""
        if self.gamma is not None:
            return self.gamma
        return self.gamma_max / 2 if self.compress == "top" else self.gamma_max

    @model_validator(mode="after")
    def _stable(self) -> ChocoSettings:
        if self.rate > self.gamma_max:
            raise ValueError(
                f"gamma = {self.rate:g} diverges with compress = '{self.compress}'"
                f"{f' and share = {self.share:g}' if self.compress == 'top' else ''}; valid: above 0, at most "
                f"{self.gamma_max:g}"
            )
        return self


CODECS = Seam(
    "codec",
    Float32Settings,
    Float16Settings,
    BFloat16Settings,
    Int8Settings,
    Int4Settings,
    TopChangeSettings,
    ChocoSettings,
    group="gossip.codecs",
    base="gossip.wire.codecs.base:Codec",
)
Codec = Annotated[SerializeAsAny[Choice], BeforeValidator(CODECS.validate)]
