"""What a task file may say in `[protocol]` with ``kind = "modest"`` or ``"fedavg"``. Free of torch and of I/O."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from gossip.settings import Choice

HARDENING = {
    "H1": "the threshold counts the peers that were addressed, not the sample size",
    "H2": "an aggregator goes on at a deadline with what has arrived",
    "H3": "a participant keeps its model and sends it again until the aggregator is done",
    "H4": "when no round begins for long, whoever holds the newest model starts one",
    "H5": "a peer that nobody has contacted for long says that it is there",
    "H6": "a peer that did not answer is skipped for a while; more are asked than needed",
    "H7": "nothing is believed that cannot be checked: rounds, samples, numbers, departures and the end",
}


def _names_of_rules(value: object) -> object:
    if value == "all":
        return tuple(HARDENING)
    if value == "none":
        return ()
    names = tuple(value) if isinstance(value, (list, tuple)) else ()
    if not isinstance(value, (list, tuple)) or not set(names) <= set(HARDENING):
        raise ValueError(f"must be 'all', 'none' or a list of {', '.join(HARDENING)}")
    return tuple(name for name in HARDENING if name in names)


class ModestSettings(Choice):
    """MoDeST (arXiv 2302.13837): mostly-consistent decentralized sampling."""

    implementation = "gossip.protocols.modest.protocol:Modest"
    kind: str = "modest"
    sample_size: int = Field(10, ge=1, le=4096, description="s, peers that train in a round")
    aggregators: int = Field(
        1,
        ge=1,
        le=64,
        description="a, peers that average each round; more survive crashes and cost a times the models",
    )
    sampler: Literal["uniform", "permutation"] = Field(
        "uniform",
        description="uniform: every round draws anew, as in the paper; permutation: every listed peer has one turn in "
        "each ⌈n/s⌉ rounds, so nobody waits long",
    )
    success_fraction: float = Field(
        1.0, gt=0, le=1, description="sf, share of the sample's models that an aggregator waits for"
    )
    ping_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Δt, a peer that has not answered for so long is skipped; sooner (H6) once answers have been seen",
    )
    ping_again_s: float = Field(1.0, gt=0, description="a ping without answer is repeated once after so long")
    activity_window: int = Field(
        50,
        ge=1,
        description="Δk, a peer not known to be active for so many rounds is no candidate; small: the dead are "
        "forgotten sooner",
    )
    hardening: Annotated[tuple[str, ...], Strict(False), BeforeValidator(_names_of_rules)] = Field(
        tuple(HARDENING), description="all, none (the bare protocol), or a list of H1 to H7"
    )
    aggregate_timeout_s: float = Field(
        20.0,
        gt=0,
        description="H2: an aggregator waits at most so long after the first model; less once it knows how late "
        "others are",
    )
    models_min: int = Field(1, ge=1, description="H2: but it never goes on with fewer models")
    send_again_s: float = Field(
        30.0,
        gt=0,
        description="H3: a trained model is sent to the next aggregator after so long at most; earlier once it is "
        "known how long confirmations take",
    )
    stall_s: float = Field(
        60.0,
        gt=0,
        description="H4: no new round for so long at most means that the chain is broken; learnt from the pace",
    )
    refresh_s: float = Field(
        30.0, gt=0, description="H5: at most so long (and half the window) without contact"
    )
    refresh_peers: int = Field(5, ge=1, le=64, description="H5: how many peers are told")
    suspect_rounds: int = Field(
        30,
        ge=1,
        description="H6: a peer that did not answer is skipped for so many rounds, for longer when it fails again",
    )
    probe_factor: float = Field(
        1.5, ge=1, le=10, description="H6: asks so many times the needed peers at once"
    )
    liars: int = Field(
        1,
        ge=0,
        le=64,
        description="H7: f, peers that may lie or keep silent; f + 1 must say what is believed, so more wait longer "
        "for the news. At most (n - 2)/2 of n peers, and less than half of a sample",
    )
    rounds_ahead_max: int = Field(
        1000, ge=1, description="H7: claims of rounds further ahead than this are ignored"
    )
    sample_slack: int = Field(
        10,
        ge=0,
        description="H7: who trained in a round must be among the first s + slack living peers of its order; who "
        "starts one among the first a + slack, and out of turn later. At most a third of the candidates",
    )

    @model_validator(mode="after")
    def _ping_again_in_time(self) -> ModestSettings:
        if self.ping_again_s >= self.ping_timeout_s:
            raise ValueError(
                f"ping_again_s = {self.ping_again_s:g} must be shorter than ping_timeout_s = {self.ping_timeout_s:g}"
            )
        return self


class FedAvgSettings(ModestSettings):
    """FedAvg with MoDeST's sampler: the peer that comes first by name averages every round."""

    implementation = "gossip.protocols.modest.fedavg:FedAvg"
    kind: str = "fedavg"
