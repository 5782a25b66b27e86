"""Calling peers until there is a connection, and again when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gossip.errors import NetworkError
from gossip.net.conversation import Conversation
from gossip.net.listening import dial
from gossip.net.local import Local
from gossip.net.neighbour import Neighbour
from gossip.net.peers_file import PeerEntry
from gossip.protocols.base import PeerId


class Dialling:
    """The diallers of all contacts: one task for each."""

    def __init__(
        self,
        local: Local,
        nursery: trio.Nursery,
        *,
        find: Callable[[PeerId], PeerEntry | None],
        converse: Callable[[Conversation], Awaitable[None]],
        on_failure: Callable[[PeerId, str, NetworkError], None],
    ) -> None:
        """Make the diallers of a table.

        Args:
            local: our side of connections.
            nursery: where tasks live.
            find: where a peer is to be found, by the peers file as it is now.
            converse: takes over a call that was answered, until it has ended; raises nothing.
            on_failure: called when nobody has answered.
        """
        self._name = local.name
        self._settings = local.settings
        self._nursery = nursery
        self._find = find
        self._converse = converse
        self._on_failure = on_failure
        self._ended = False

    def start(self, neighbour: Neighbour) -> None:
        """Call a peer whenever there is no connection, until `Neighbour.stop_dialling`."""
        if not neighbour.dialling:
            neighbour.dialling = True
            self._nursery.start_soon(self._keep_dialling, neighbour)

    def end(self) -> None:
        """Call nobody any more."""
        self._ended = True

    async def _keep_dialling(self, neighbour: Neighbour) -> None:
        first_s = 0.0 if self._name < neighbour.name else self._settings.dial_delay_s
        wait_s = first_s
        with neighbour.new_dial_scope():
            while not self._ended:
                with trio.move_on_after(wait_s):
                    await neighbour.up.wait()
                if neighbour.connection is not None:
                    await neighbour.down.wait()
                    wait_s = first_s + neighbour.backoff.wait_s()
                else:
                    entry = self._find(neighbour.name)
                    if entry is None:
                        break
                    await self._dial(neighbour, entry)
                    wait_s = neighbour.backoff.wait_s()
                # Whom we do not let in, we do not call.
                wait_s = max(wait_s, neighbour.standing.held_off_s(trio.current_time()))
            neighbour.dialling = False

    async def _dial(self, neighbour: Neighbour, entry: PeerEntry) -> None:
        """Dial once; return when that has failed, or when the connection has ended."""
        timeout_s = self._settings.handshake_timeout_s
        try:
            with trio.move_on_after(timeout_s) as scope:
                transport = await dial(entry)
            if scope.cancelled_caught:
                raise NetworkError(f"no answer within {timeout_s:g} s")
        except NetworkError as error:
            self._on_failure(neighbour.name, entry.address, error)
            return
        # In a task of its own: a peer that is no contact any more is not dialled again, but not cut off either.
        conversation = Conversation(transport, dialled=neighbour.name, address=entry.address)
        self._nursery.start_soon(self._converse, conversation)
        await conversation.ended.wait()
