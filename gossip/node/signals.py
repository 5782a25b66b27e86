"""What the world tells a process by signals: leave, leave at once, read the peers file again."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from gossip.config.graphs import build_topology
from gossip.errors import GossipError, SettingError
from gossip.net.peers_file import load as load_peers
from gossip.telemetry.containment import said_of, tell

if TYPE_CHECKING:
    from gossip.node.options import NodeOptions
    from gossip.node.setup import Membership

READ_S = 10.0
"""For a peers file, and a topology's, to be read; 100,000 peers take a few seconds."""

HANGING_MAX = 4
"""Threads that a disk which hangs may keep; others need the rest."""


async def watch_signals(
    *, leave: Callable[[str], None], leave_at_once: Callable[[], None], read_again: Callable[[], None]
) -> None:
    """Call `leave` with the name of the first SIGINT or SIGTERM, `leave_at_once` at others, `read_again` at SIGHUP."""
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        # Held back while the task was loaded, when it would have ended the process.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        async for number in signals:
            if number == signal.SIGHUP:
                read_again()
            elif interrupted:
                tell(logging.WARNING, "second signal: leaving at once")
                leave_at_once()
            else:
                interrupted = True
                leave(signal.Signals(number).name)


class PeersAgain:
    """Reads the peers file again when asked, beside the event loop: a file may be huge, and a disk may hang.

    Whatever is wrong with the file, or with what follows from it, is one sentence in the log; the old peers stay.

    Args:
        membership: as the node started.
        options: where the file is.
        take: is given who we are among the new peers, and among the old ones; may raise, having changed nothing.
    """

    def __init__(
        self,
        membership: Membership,
        options: NodeOptions,
        take: Callable[[Membership, Membership], None],
    ) -> None:
        self._membership = membership
        self._options = options
        self._take = take
        self._asked = trio.Event()
        self._limiter = trio.CapacityLimiter(HANGING_MAX)

    def ask(self) -> None:
        """Have the file read; what changes while it is being read is read once more."""
        self._asked.set()

    async def run(self) -> None:
        """Read whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            try:
                found = await self._read_in_time()
                self._take(found, self._membership)
                self._membership = found
            except Exception as error:
                blame = "" if isinstance(error, GossipError) else f"{self._options.peers}: "
                said = str(error) if isinstance(error, GossipError) else said_of(error)
                bug = None if isinstance(error, GossipError | OSError) else error
                tell(logging.ERROR, f"SIGHUP: {blame}{said}; going on with the old peers", bug=bug)

    async def _read_in_time(self) -> Membership:
        with trio.move_on_after(READ_S):
            return await trio.to_thread.run_sync(self._read, limiter=self._limiter, abandon_on_cancel=True)
        raise SettingError(f"{self._options.peers}: could not be read within {READ_S:g} s")

    def _read(self) -> Membership:
        old, path = self._membership, self._options.peers
        if path.exists() and not path.is_file():
            # A pipe gives what it says once, and whoever opens it again waits for ever.
            raise SettingError(f"{path}: is no regular file any more")
        peers = load_peers(path, insecure=self._options.insecure)
        me = peers.find(old.me.name)
        if me is None or me.certificate != old.me.certificate:
            raise SettingError(f"{path}: our own line ('{old.me.name}') is gone or has changed")
        topology = build_topology(old.settings, names=peers.names, folder=old.folder)
        return replace(old, peers=peers, me=me, topology=topology)
