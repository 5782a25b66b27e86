"""What a task file may say in `[protocol]`. Free of torch and of I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from gossip.protocols.modest.settings import FedAvgSettings, ModestSettings
from gossip.protocols.push.settings import PushSettings
from gossip.settings import Choice, Seam, Settings


class RoundsSettings(Choice):
    """Synchronous neighbourhood rounds: one local update, then Q gossip steps."""

    implementation = "gossip.protocols.rounds:Rounds"
    implied: ClassVar[Mapping[str, Any]] = {
        "order": "adapt-then-combine",
        "parts": 1,
        "weighing": "row",
        "interval_max": 10,
        "self_min": 0.2,
    }
    kind: str = "rounds"
    order: Literal["adapt-then-combine", "combine-then-adapt"] = Field(
        "adapt-then-combine",
        description="what a round mixes: what was trained, W(x - γ∇F(x)) for one SGD step; or models as they were "
        "before, to which each peer adds its own update, Wx - γ∇F(x): D-PSGD as published (Lian et al. 2017). Models "
        "then travel while they are trained; what is left at the end of a round has not been mixed",
    )
    gossip_steps: int = Field(1, ge=0, le=64, description="Q, exchanges per round; 0 never exchanges (local)")
    parts: int = Field(
        1,
        ge=1,
        le=4096,
        description="S: a gossip step sends one of so many parts of the model, in turn; larger: fewer bytes each, "
        "slower agreement. With gossip_steps = parts a round sends a model and mixes as one step of whole models does",
    )
    weighing: Literal["row", "participation"] = Field(
        "row",
        description="what a model weighs: its entry of W; or that times how seldom its sender comes (FedAU), for "
        "peers whose data go with when they are there",
    )
    interval_max: int = Field(
        10,
        ge=2,
        le=1000,
        description="K of weighing = participation: who comes in every K-th step, or more seldom, weighs K times more",
    )
    self_min: float = Field(
        0.2, ge=0, lt=1, description="of weighing = participation: the own model's weight is at least that"
    )
    deadline_k: float = Field(
        6.0,
        ge=0,
        description="a step waits median + k·MAD of past arrival delays; larger: patient with jitter",
    )
    deadline_floor_s: float = Field(3.0, gt=0, description="the margin over the median is at least so long")
    deadline_cap_s: float = Field(60.0, gt=0, description="a step waits at most so long; also the first wait")
    deadline_share: float = Field(
        0.15,
        ge=0,
        le=1,
        description="waiting for neighbours later than most takes at most this share of all other time; larger: slower "
        "machines are waited for, and a neighbour that is late on purpose costs more",
    )
    catch_up_rounds: int = Field(
        2,
        ge=1,
        description="catch up when most neighbours are so many rounds ahead; small: less own work kept",
    )

    @model_validator(mode="after")
    def _something_to_combine(self) -> RoundsSettings:
        if self.order == "combine-then-adapt" and not self.gossip_steps:
            raise ValueError(
                "order = 'combine-then-adapt' means nothing with gossip_steps = 0, which combines nothing"
            )
        return self

    @model_validator(mode="after")
    def _something_to_weigh(self) -> RoundsSettings:
        if self.weighing == "row" and (self.interval_max, self.self_min) != (10, 0.2):
            raise ValueError(
                "interval_max and self_min belong to weighing = 'participation', which is not set"
            )
        if self.weighing != "row" and not self.gossip_steps:
            raise ValueError(
                f"weighing = '{self.weighing}' means nothing with gossip_steps = 0, which hears nobody"
            )
        return self

    @model_validator(mode="after")
    def _floor_below_cap(self) -> RoundsSettings:
        if self.deadline_floor_s > self.deadline_cap_s:
            raise ValueError(
                f"deadline_floor_s = {self.deadline_floor_s} is above deadline_cap_s = {self.deadline_cap_s}"
            )
        return self


class FinalSettings(Settings):
    """`[final]`: gossip steps after those of the last round, on a graph of their own; nothing is trained after them."""

    topology: Literal["base", "pairs", "full"] = Field(
        "base",
        description="base: exact averaging in a period of sparse steps, where all members are up; pairs: random ones, "
        "where some may be missing; full: everybody with everybody, in one step",
    )
    degree: int = Field(
        1, ge=1, le=16, description="topology = base: models that a peer sends in a step, at most"
    )
    steps: Literal["period"] | Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="period: as many as average exactly, of base and full; 0: none"
    )
    exact: bool = Field(
        True,
        description="models of these steps travel as float32, whatever [codec] says; false: coded as all others, fewer "
        "bytes, and peers end about as far apart as the codec rounds",
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> FinalSettings:
        if self.degree != 1 and self.topology != "base":
            raise ValueError(f"degree = {self.degree} belongs to topology = 'base', not '{self.topology}'")
        if self.steps == "period" and self.topology == "pairs":
            raise ValueError(
                "steps = 'period' means nothing with topology = 'pairs', which never repeats; about 2·log2(peers) "
                "steps bring peers close to each other"
            )
        if self.steps == 0 and (self.topology, self.degree, self.exact) != ("base", 1, True):
            raise ValueError(
                "steps = 0 makes no final steps, and the other keys mean nothing; valid: 1 to 64, 'period'"
            )
        return self


ORDERS: tuple[str, ...] = get_args(RoundsSettings.model_fields["order"].annotation)

PROTOCOLS = Seam(
    "protocol",
    RoundsSettings,
    ModestSettings,
    FedAvgSettings,
    PushSettings,
    group="gossip.protocols",
    base="gossip.protocols.base:Protocol",
)


def _validate(value: object) -> Choice:
    """Turn a table into settings; one that says an order of `rounds` with another kind is told where that belongs."""
    if isinstance(value, Mapping) and value.get("order") in ORDERS:
        for other in (ModestSettings, FedAvgSettings, PushSettings):
            if value.get("kind") == other.model_fields["kind"].default:
                raise ValueError(
                    f"order = '{value['order']}' belongs to kind = 'rounds', where every peer mixes its model with its "
                    f"neighbours' in each round; '{value['kind']}' has no such choice"
                )
    return PROTOCOLS.validate(value)


ProtocolChoice = Annotated[SerializeAsAny[Choice], BeforeValidator(_validate)]
