"""Peers of one process that talk over real sockets, for tests: tables of neighbours that record what happens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trio

from gossip.net import peers_file
from gossip.net.identity import Identity
from gossip.net.neighbours import Agreement, NeighbourTable
from gossip.net.peers_file import PeersFile
from gossip.net.settings import NetSettings
from gossip.protocols.base import Message, ModelMessage
from gossip.telemetry.accounting import Accounting
from gossip.wire.codecs import Float32

PATIENCE_S = 20.0
"""Nothing here takes a second; a test that waits this long has failed."""

UNSEEN = "a model that nobody has looked at"

AGREEMENT = Agreement(run_id="run", sections=(("data", "1"), ("local", "2")), space_id="space")


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that were free just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Value:
    """A model handle whose value may come later."""

    def __init__(self, vector: torch.Tensor | None = None) -> None:
        self._vector = vector
        self._known = trio.Event()
        if vector is not None:
            self._known.set()

    def set(self, vector: torch.Tensor) -> None:
        self._vector = vector
        self._known.set()

    def ready(self) -> bool:
        return self._vector is not None

    async def wait(self) -> torch.Tensor:
        await self._known.wait()
        assert self._vector is not None
        return self._vector


def model(round: int, vector: torch.Tensor | Value, step: int = 0) -> ModelMessage:
    """Return a model message."""
    handle = vector if isinstance(vector, Value) else Value(vector)
    return ModelMessage(round=round, step=step, model=handle)


class Peer:
    """One peer; `until` waits for what its table tells."""

    def __init__(self, table: Callable[..., NeighbourTable]) -> None:
        self.accounting = Accounting()
        self.messages: list[tuple[str, Message]] = []
        self.changes: list[tuple[str, bool]] = []
        self.rejected: list[tuple[str | None, str, str]] = []
        self.unseen: set[str] = set()
        """Whose models are not decoded."""
        self._changed = trio.Event()
        self.table = table(
            accounting=self.accounting,
            unseen=lambda sender: UNSEEN if sender in self.unseen else None,
            on_message=lambda sender, message: self._note(self.messages, (sender, message)),
            on_peer=lambda peer, up: self._note(self.changes, (peer, up)),
            on_rejected=lambda peer, reason, sentence: self._note(self.rejected, (peer, reason, sentence)),
        )

    def _note(self, record: list[Any], entry: Any) -> None:
        record.append(entry)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a change makes `condition` true."""
        with trio.fail_after(PATIENCE_S):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()

    async def until_up(self, *names: str) -> None:
        await self.until(lambda: all(self.table.is_up(name) for name in names))

    def reasons(self) -> set[str]:
        return {reason for _, reason, _ in self.rejected}


class Net:
    """Identities and a peers file in a folder, and the peers made from them."""

    def __init__(self, folder: Path, *names: str, insecure: bool = False) -> None:
        self.folder = folder
        self.insecure = insecure
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.identities = {
            name: Identity.create(folder / name, name=name, advertise=f"127.0.0.1:{port}")
            for name, port in self.ports.items()
        }
        self.peers = self.file(*names)

    def file(self, *names: str) -> PeersFile:
        path = self.folder / f"peers-{'-'.join(names)}.txt"
        path.write_text("\n".join(self.identities[name].peers_line() for name in names))
        return peers_file.load(path)

    def peer(
        self,
        name: str,
        *,
        contacts: tuple[str, ...] | None = None,
        peers: PeersFile | None = None,
        agreement: Agreement = AGREEMENT,
        learned: int = 16,
        instance: str = "1",
        identity: Identity | None = None,
        **settings: Any,
    ) -> Peer:
        peers = peers or self.peers
        return Peer(
            lambda **callbacks: NeighbourTable(
                name=name,
                peers=peers,
                contacts=peers.names if contacts is None else contacts,
                identity=None if self.insecure else identity or self.identities[name],
                agreement=agreement,
                codec=Float32(),
                learned_size=learned,
                settings=NetSettings(**settings),
                rng=np.random.default_rng(1),
                instance=instance,
                **callbacks,
            )
        )
