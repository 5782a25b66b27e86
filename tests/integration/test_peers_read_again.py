"""SIGHUP: whatever has become of the peers file, a node says one sentence and goes on with the peers that it has."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trio

from gossip.errors import ExitCode
from gossip.net.identity import IDENTITY_FILE, Identity
from gossip.node import signals
from gossip.node.node import Node
from gossip.node.options import NodeOptions
from gossip.node.running import run_node
from gossip.node.setup import find_membership, load_learning
from tests.integration.homes import PATIENCE_S, make_homes

NAMES = ("alice", "bob", "carol", "dave")
TASK = (
    "data.partition.kind=own",
    "model.hidden=[4]",
    "local.steps=1",
    "topology.kind=hypercube",
    "merge.kind=median",
    "merge.f=1",
    "node.linger_s=0.0",
    "node.start_timeout_s=0.0",
    "node.neighbours_min=0",
    "stop.rounds=1000000",
)
OLD = "going on with the old peers"


class Mistakes:
    """What may have become of the peers file of four, of which only alice runs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = patch
        self._peers = folder / "peers.txt"
        self._good = self._peers.read_text()
        self._release: Callable[[], None] = lambda: None

    def end(self) -> None:
        self._release()

    def mend(self) -> None:
        self._patch.undo()
        with contextlib.suppress(FileNotFoundError):
            if self._peers.is_dir():
                self._peers.rmdir()
            self._peers.unlink()
        self._peers.write_text(self._good)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "aside").rename(self._folder / "alice" / IDENTITY_FILE)

    def _says(self, lines: list[str]) -> None:
        self._peers.write_text("\n".join(lines) + "\n")

    def gone(self) -> str:
        self._peers.unlink()
        return "there is no such peers file"

    def folder(self) -> str:
        self._peers.unlink()
        self._peers.mkdir()
        return "is no regular file any more"

    def fifo(self) -> str:
        self._peers.unlink()
        os.mkfifo(self._peers)
        return "is no regular file any more"

    def hanging_disk(self) -> str:
        release = threading.Event()
        self._release = release.set

        def hang(*_: object, **__: object) -> object:
            raise OSError(str(release.wait(PATIENCE_S)))

        self._patch.setattr(signals, "load_peers", hang)
        self._patch.setattr(signals, "READ_S", 0.05)
        return "could not be read within 0.05 s"

    def forbidden(self) -> str:
        def denied(*_: object) -> object:
            raise PermissionError(13, "Permission denied")

        self._patch.setattr(Path, "open", denied)  # root may read everything
        return "cannot be read: Permission denied"

    def huge(self) -> str:
        with self._peers.open("r+b") as file:
            file.truncate(1 << 30)
        return "that is no peers file"

    def binary(self) -> str:
        self._peers.write_bytes(bytes(range(256)) * 100)
        return "is not UTF-8 text"

    def zeros(self) -> str:
        self._peers.write_bytes(bytes(100_000))
        return "stands alone"

    def empty(self) -> str:
        self._says([])
        return "names no peers"

    def without_us(self) -> str:
        self._says([line for line in self._good.splitlines() if "alice" not in line])
        return "our own line ('alice') is gone or has changed"

    def another_key_for_us(self) -> str:
        other = Identity.create(self._folder / "other", name="alice", advertise="127.0.0.1:1")
        self._says([line for line in self._good.splitlines() if "alice" not in line] + [other.peers_line()])
        return "our own line ('alice') is gone or has changed"

    def no_topology_of_three(self) -> str:
        self._says([line for line in self._good.splitlines() if "dave" not in line])
        return "hypercube needs a power of two"

    def too_few_for_the_merge_rule(self) -> str:
        self._says(self._good.splitlines()[:3])  # a comment, alice, bob
        return "[merge] f = 1"

    def no_identity(self) -> str:
        erin = Identity.create(self._folder / "erin", name="erin", advertise="127.0.0.1:2")
        self._says([*self._good.splitlines()[:-1], erin.peers_line()])
        (self._folder / "alice" / IDENTITY_FILE).rename(self._folder / "aside")
        return "TLS cannot use this identity"

    def bug(self) -> str:
        def broken(*_: object, **__: object) -> object:
            raise ZeroDivisionError("a bug")

        self._patch.setattr(signals, "build_topology", broken)
        return "ZeroDivisionError: a bug"


def test_whatever_is_wrong_with_the_peers_file_is_one_sentence_and_the_old_peers_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.eye(4, dtype=np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(4) % 2, x_test=x, y_test=np.arange(4) % 2)
    peers = make_homes(tmp_path, NAMES)
    overrides = (*TASK, f"data.source={tmp_path / 'd.npz'}")
    options = NodeOptions(peers=peers, home=tmp_path / "alice", overrides=overrides)

    class Hupped(Node):
        async def _live(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hup)
                await super()._live()

        async def _hup(self) -> None:
            with pytest.MonkeyPatch.context() as patch:
                mistakes = Mistakes(tmp_path, patch)
                wrong = [
                    each
                    for name, each in vars(Mistakes).items()
                    if name[0] != "_" and name not in ("mend", "end")
                ]
                for each in wrong:
                    said = await self._said(each(mistakes))
                    assert len(said.splitlines()) == 1
                    assert len(said) < 600
                    assert self._context.peers == NAMES
                    mistakes.mend()
                mistakes.end()
            os.kill(os.getpid(), signal.SIGHUP)
            with trio.fail_after(PATIENCE_S):
                while "peers.txt read again, 4 peers" not in caplog.text:
                    await trio.sleep(0.001)
            self._interrupt("SIGTERM")

        async def _said(self, wanted: str) -> str:
            """Send the signal, and return what is said of it, once a round is done after it."""
            caplog.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            with trio.fail_after(PATIENCE_S):
                while OLD not in caplog.text:
                    await trio.sleep(0.001)
                done = self.rounds_done
                while self.rounds_done <= done:
                    await trio.sleep(0.001)
            (said,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert (said[:8], wanted in said, said.endswith(OLD)) == ("SIGHUP: ", True, True), said
            return said

    with caplog.at_level(logging.INFO, logger="gossip.node"):
        code = run_node(load_learning(options, find_membership(options)), Hupped)
    assert code == ExitCode.INTERRUPTED
