"""What the world tells a process by signals: leave, leave at once, read the peers file again."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from gossip.config.graphs import build_topology
from gossip.errors import SettingError
from gossip.net.peers_file import PeersFile
from gossip.net.peers_file import load as load_peers
from gossip.telemetry.containment import tell
from topologies import Topology

if TYPE_CHECKING:
    from gossip.node.setup import Setup


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


def peers_read_again(setup: Setup) -> tuple[PeersFile, Topology] | None:
    """Return a changed peers file and the graph of its peers; with a mistake in it, say so and return None."""
    membership, options = setup.membership, setup.options
    try:
        peers = load_peers(options.peers, insecure=options.insecure)
        me = peers.find(membership.me.name)
        if me is None or me.certificate != membership.me.certificate:
            raise SettingError(
                f"{options.peers}: our own line ('{membership.me.name}') is gone or has changed"
            )
        topology = build_topology(membership.settings, names=peers.names, folder=membership.folder)
    except SettingError as error:
        tell(logging.ERROR, f"SIGHUP: {error}; going on with the old peers")
        return None
    return peers, topology
