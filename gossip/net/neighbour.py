"""What the table knows of one peer."""

from __future__ import annotations

from typing import Any

import numpy as np
import trio

from gossip.net.backoff import Backoff
from gossip.net.connection import Connection
from gossip.net.settings import NetSettings
from gossip.net.standing import Standing
from gossip.protocols.base import PeerId


class Neighbour:
    """One peer: its connection if there is one, how it is dialled, and what went wrong last."""

    def __init__(self, name: PeerId, address: str, settings: NetSettings, rng: np.random.Generator) -> None:
        self.name = name
        self.address = address
        self.connection: Connection | None = None
        self.error: str | None = None
        self.dialling = False
        self.up = trio.Event()
        self.down = trio.Event()
        self.backoff = Backoff(min_s=settings.backoff_min_s, max_s=settings.backoff_max_s, rng=rng)
        self._settings = settings
        self._key: bytes | None = None
        self.standing = self._new_standing()
        self._worked_s = settings.heartbeat_timeout_s
        self._dial_scope = trio.CancelScope()
        self._bytes_before = {"sent": 0, "received": 0}

    def identify(self, certificate: bytes | None) -> None:
        """Note whose key the file has under the name: what another key's owner did wrong is not held against it."""
        if certificate != self._key:
            self._key = certificate
            self.standing = self._new_standing()

    def _new_standing(self) -> Standing:
        settings = self._settings
        return Standing(
            min_s=settings.offence_wait_min_s, max_s=settings.offence_wait_max_s, now_s=trio.current_time()
        )

    def attach(self, connection: Connection) -> None:
        """Take a connection into use."""
        self.connection = connection
        self.error = None
        self.down = trio.Event()
        self.up.set()

    def detach(self) -> bool:
        """Let the connection go; return whether it worked, and did not end soon after it began."""
        worked = False
        if self.connection is not None:
            up_since_s = self.connection.up_since_s
            # One that fails soon after every beginning is not worth dialling at once each time.
            worked = up_since_s is not None and trio.current_time() - up_since_s > self._worked_s
            if worked:
                self.backoff.reset()
            self._bytes_before["sent"] += self.connection.sent_bytes
            self._bytes_before["received"] += self.connection.received_bytes
        self.connection = None
        self.up = trio.Event()
        self.down.set()
        return worked

    def new_dial_scope(self) -> trio.CancelScope:
        """Return the scope of a new dialler."""
        self._dial_scope = trio.CancelScope()
        return self._dial_scope

    def stop_dialling(self) -> None:
        """End the dialler; a connection that it made goes on."""
        self.dialling = False
        self._dial_scope.cancel()

    def as_dict(self, now_s: float) -> dict[str, Any]:
        """Return what `gossip-node status` shows."""
        connection = self.connection
        up_since_s = None if connection is None else connection.up_since_s
        return {
            "name": self.name,
            "address": self.address,
            "up": connection is not None,
            "up_s": None if up_since_s is None else round(now_s - up_since_s, 3),
            "dialled": None if connection is None else connection.dialled,
            "rtt_ms": None
            if connection is None or connection.rtt_s is None
            else round(connection.rtt_s * 1e3, 3),
            "sent_bytes": self._bytes_before["sent"] + (connection.sent_bytes if connection else 0),
            "received_bytes": self._bytes_before["received"]
            + (connection.received_bytes if connection else 0),
            "error": self.error,
        }
