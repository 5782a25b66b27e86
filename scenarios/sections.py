"""What a scenario may say of the world around its peers: `[network]`, `[compute]`, `[peers]`, `[faults]`, `[stop]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field, Strict, StrictFloat, StrictInt, model_validator

from gossip.config import StopSettings
from gossip.settings import Settings

Number = StrictFloat | StrictInt


def _number_or_range(value: object) -> object:
    parts: Sequence[Any] = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    if not all(_is_number(part) for part in parts):
        raise ValueError("must be a number, or two: [from, to]")
    if not 0 <= parts[0] <= parts[-1]:
        raise ValueError("must be 0 <= from <= to")
    return value


def _positions_or_share(value: object) -> object:
    if isinstance(value, (list, tuple)):
        if not value or not all(isinstance(part, int) and not isinstance(part, bool) for part in value):
            raise ValueError("must be a list of positions, such as [0, 3], or a share between 0 and 1")
    elif value is not None and not (_is_number(value) and 0 < value <= 1):  # type: ignore[operator]
        raise ValueError("must be a share between 0 and 1, or a list of positions, such as [0, 3]")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


Range = Annotated[Number | Annotated[tuple[Number, Number], Strict(False)], BeforeValidator(_number_or_range)]
Selection = Annotated[
    Annotated[tuple[StrictInt, ...], Strict(False)] | Number | None, BeforeValidator(_positions_or_share)
]


class NetworkSettings(Settings):
    """`[network]` of the virtual engine, and of `[processes] links = "namespaces"`. The default is a good local one."""

    latency_ms: Range = Field(
        1.0, description="one way; a number, or [from, to]: drawn once for each pair, the same both ways"
    )
    jitter_ms: float = Field(0.0, ge=0, description="added to each message, uniform between 0 and this")
    bandwidth_mbps: float | None = Field(
        None,
        gt=0,
        description="of each peer, up and down each, shared fairly by its transfers; none: unlimited",
    )
    loss: float = Field(
        0.0, ge=0, lt=1, description="of packets; TCP sends again, so it costs time and not messages"
    )
    cities_path: str | None = Field(
        None, description="CSV lines 'from,to,milliseconds'; peers are placed in the cities in turn"
    )


class ComputeSettings(Settings):
    """`[compute]` of the virtual engine: how long a local update takes."""

    seconds_per_sample: float = Field(1e-4, ge=0, description="of one pass over one sample, forward and back")
    spread: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the logarithm of a peer's speed, drawn once for each peer",
    )
    stragglers: float = Field(0.0, ge=0, le=1, description="share of the peers that are slow")
    slowdown: float = Field(10.0, ge=1, description="how many times slower a straggler is")


TraceColumn: TypeAlias = Literal["up", "down", "upload_mbps_max", "seconds_per_sample", "online"]

TRACE_COLUMNS: tuple[str, ...] = get_args(TraceColumn)


class PeersSettings(Settings):
    """`[peers]`: what each peer's machine is like, from a file with a line for each (`scenarios/traces.py`)."""

    trace: str | None = Field(
        None,
        description="CSV with the columns up, down, upload_mbps_max (Mbit/s), seconds_per_sample, online "
        "(0-120;300-600), or some of them; `gossip-scenario trace` makes one",
    )
    columns: Annotated[tuple[TraceColumn, ...], Strict(False)] | None = Field(
        None, min_length=1, description="those of the file that are used; default: all"
    )
    repeat: bool = Field(
        False, description="if the file has fewer lines than there are peers, take them in turn"
    )

    @model_validator(mode="after")
    def _of_a_trace(self) -> PeersSettings:
        if self.trace is None and (self.columns is not None or self.repeat):
            raise ValueError(
                f"{'repeat' if self.repeat else 'columns'} belongs to a trace, and none is named"
            )
        return self


class Fault(Settings):
    """One entry of `[faults] list`."""

    at: float = Field(ge=0, description="seconds after the start")
    do: Literal["crash", "restart", "leave", "join", "partition", "heal", "pause", "resume"]
    peers: Selection = Field(
        None,
        description="positions, or a share drawn at random; restart, heal and resume: all that need it by default",
    )

    @model_validator(mode="after")
    def _peers_where_needed(self) -> Fault:
        if self.peers is None and self.do in ("crash", "leave", "join", "partition", "pause"):
            raise ValueError(f"do = '{self.do}' needs peers: positions, or a share between 0 and 1")
        return self


class Churn(Settings):
    """Sessions: every peer is online for a while, offline for a while, and so on."""

    online_s: float | None = Field(None, gt=0, description="mean length of a session")
    offline_s: float | None = Field(None, gt=0, description="mean time between sessions")
    shape: float = Field(
        1.0, gt=0, description="of the Weibull distribution; 1 is exponential, below 1 many short ones"
    )
    trace_path: str | None = Field(
        None, description="CSV lines 'peer,online_from_s,online_to_s' instead of draws"
    )

    @model_validator(mode="after")
    def _drawn_or_traced(self) -> Churn:
        lengths = (self.online_s, self.offline_s)
        if self.trace_path is None and None in lengths:
            raise ValueError("churn needs online_s and offline_s, or trace_path")
        if self.trace_path is not None and lengths != (None, None):
            raise ValueError("churn takes online_s and offline_s, or trace_path, not both")
        return self


class FaultSettings(Settings):
    """`[faults]`: what goes wrong, and when."""

    list: Annotated[tuple[Fault, ...], Strict(False)] = ()
    churn: Churn | None = None

    def with_more(self, faults: Sequence[Fault]) -> FaultSettings:
        """Return the same with more entries in the list, behind those that are there."""
        return self.model_copy(update={"list": (*self.list, *faults)}) if faults else self


class ScenarioStop(StopSettings):
    """`[stop]` of a scenario: the first that comes true ends the run."""

    virtual_seconds: float | None = Field(None, gt=0, description="virtual engine only")
    target_accuracy: float | None = Field(
        None, gt=0, le=1, description="mean accuracy; the summary tells when it was reached, the run goes on"
    )
    target_score: float | None = Field(
        None,
        description="the same of any objective's score: its mean at least that, or at most where less is better",
    )

    @model_validator(mode="after")
    def _one_target(self) -> ScenarioStop:
        if self.target_accuracy is not None and self.target_score is not None:
            raise ValueError("'target_accuracy' and 'target_score' exclude each other; write one of them")
        return self


def bounds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return (from, to) of a number or a range."""
    if isinstance(value, tuple):
        return float(value[0]), float(value[1])
    return float(value), float(value)
