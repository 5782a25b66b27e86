"""What a task file may say in `[net]`. Free of torch and trio.

The defaults suit machines in one city and on one desk alike; on slow or lossy links raise `heartbeat_timeout_s`.
"""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from gossip.settings import Settings

UPLOAD_BURST_S = 0.1
"""Seconds' worth of `upload_mbps_max` that may leave at once: how long what is short waits for a piece of a model."""

SLOW_CHUNK_BYTES_MIN = 4096
"""Shorter chunks would be mostly headers, however slow the upload."""


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
        description="unauthenticated connections at one time, a third of them at each stage (silent, heard, answered); "
        "beyond it the oldest of the busiest host goes",
    )
    strangers_max: int = Field(
        64,
        ge=1,
        description="of these, those that call from hosts that no peer is known to have; the rest of the room is for "
        "hosts of the peers file and those a peer has come from",
    )
    dial_delay_s: float = Field(
        0.5, ge=0, description="the larger name of a pair waits this long for the smaller one to dial"
    )
    backoff_min_s: float = Field(0.2, gt=0, description="wait before the second attempt; doubles each time")
    backoff_max_s: float = Field(
        15.0, gt=0, description="longest wait between attempts; each wait is drawn from [0.5, 1] of it"
    )
    chunk_bytes: int = Field(
        512 * 1024,
        ge=1024,
        le=512 * 1024,
        description="a model's piece; other messages pass between pieces, which are shorter where upload_mbps_max is "
        "low",
    )
    upload_mbps_max: float | None = Field(
        None,
        gt=0,
        description="Mbit/s that this peer sends at most, over all connections together; none: as much as the link "
        "takes. A model to each of k neighbours then takes 8e-6 · k · bytes / upload_mbps_max seconds",
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
    messages_per_s: float = Field(
        500.0,
        ge=1,
        description="messages that one neighbour may send, beyond a burst of four seconds' worth; then reading from it "
        "pauses. Less leaves more time for the others, more lets tiny models travel faster than so many a second",
    )
    receive_bytes_per_s: int = Field(
        10_000_000_000,
        ge=64 * 1024,
        description="bytes that one neighbour may send; then reading from it pauses. The default is more than a link "
        "brings; set it to leave room on a shared one",
    )
    rejected_per_s: float = Field(
        50.0,
        gt=0,
        description="messages of one neighbour that the protocol or [sanitise] rejects, beyond a burst of ten seconds' "
        "worth; more end the connection. An honest straggler's are out of date, one for each of the others' rounds",
    )
    model_bytes_per_s_min: int = Field(
        64 * 1024,
        ge=1,
        description="a model must come at this pace on the average (after heartbeat_timeout_s more), for its memory is "
        "taken from the first byte on; lower it for links of less than half a megabit",
    )
    offence_wait_min_s: float = Field(
        1.0,
        gt=0,
        description="who broke a rule is not let in for so long; doubles with each offence, until a quiet time",
    )
    offence_wait_max_s: float = Field(
        600.0, gt=0, description="longest time for which one that broke rules is held off"
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
        if self.offence_wait_max_s < self.offence_wait_min_s:
            raise ValueError(
                f"offence_wait_max_s = {self.offence_wait_max_s:g} must not be shorter than "
                f"offence_wait_min_s = {self.offence_wait_min_s:g}"
            )
        return self


def bytes_per_second(mbps: float) -> float:
    """Return bytes per second of Mbit/s."""
    return mbps * 1e6 / 8


def sent_chunk_bytes(wanted: int, upload_mbps_max: float | None) -> int:
    """Return how long a model's chunks are, with `chunk_bytes` wanted: no more than leaves in `UPLOAD_BURST_S`."""
    if upload_mbps_max is None:
        return wanted
    slow = math.floor(bytes_per_second(upload_mbps_max) * UPLOAD_BURST_S)
    return min(wanted, max(SLOW_CHUNK_BYTES_MIN, slow))
