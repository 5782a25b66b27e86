"""What a task file may say in `[net]`. Free of torch and trio.

The defaults suit machines in one city and on one desk alike; on slow or lossy links raise `heartbeat_timeout_s`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from gossip.settings import Settings


class NetSettings(Settings):
    """`[net]`: connections between peers. Each peer may have its own; they need not agree."""

    heartbeat_s: float = Field(2.0, gt=0, description="how often an idle connection says that it is alive")
    heartbeat_timeout_s: float = Field(
        10.0,
        gt=0,
        description="a connection that is silent this long is dead; shorter finds failures sooner and cuts slow links",
    )
    write_timeout_s: float = Field(
        30.0, gt=0, description="a connection that takes not one chunk in this long is dead"
    )
    handshake_timeout_s: float = Field(
        10.0, gt=0, description="from the first byte until both hellos are read"
    )
    handshakes_max: int = Field(
        256,
        ge=1,
        description="unauthenticated connections at one time; beyond it the oldest of the busiest host goes",
    )
    dial_delay_s: float = Field(
        0.5, ge=0, description="the larger name of a pair waits this long for the smaller one to dial"
    )
    backoff_min_s: float = Field(0.2, gt=0, description="wait before the second attempt; doubles each time")
    backoff_max_s: float = Field(
        15.0, gt=0, description="longest wait between attempts; each wait is drawn from [0.5, 1] of it"
    )
    chunk_bytes: int = Field(
        512 * 1024, ge=1024, le=512 * 1024, description="a model's piece; other messages pass between pieces"
    )
    queue_messages_max: int = Field(
        1024, ge=1, description="unsent messages without a model per peer; more end the connection"
    )
    queue_models_max: int = Field(
        2,
        ge=1,
        description="unsent models per peer; a newer one then takes the place of the oldest. Peers in step send two at "
        "once where they heard all neighbours early",
    )
    close_timeout_s: float = Field(
        2.0, gt=0, description="how long leaving waits for the message in hand and the goodbye"
    )

    @model_validator(mode="after")
    def _in_order(self) -> NetSettings:
        if self.heartbeat_timeout_s <= self.heartbeat_s:
            raise ValueError(
                f"heartbeat_timeout_s = {self.heartbeat_timeout_s:g} must be longer than "
                f"heartbeat_s = {self.heartbeat_s:g}"
            )
        if self.backoff_max_s < self.backoff_min_s:
            raise ValueError(
                f"backoff_max_s = {self.backoff_max_s:g} must not be shorter than "
                f"backoff_min_s = {self.backoff_min_s:g}"
            )
        return self
