"""What simulated peers remember beside their models, as of their checkpoints."""

from __future__ import annotations

from torch import Tensor

from gossip.errors import ProtocolMisuse
from gossip.stages import PeerState
from scenarios.virtual.learning.arena import Handle


class Memory:
    """What a peer remembered at its checkpoint, once that is computed."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] | None = None


class Remembering:
    """Copies rows of the table when what they belong to has been computed, and puts them back.

    Args:
        state: the rows of all peers.
    """

    def __init__(self, state: PeerState) -> None:
        self._state = state
        self._awaited: dict[tuple[int, int], Memory] = {}

    def remember(self, peer: int, trainings: int, *, pending: bool) -> Memory:
        """Return what the peer remembers after so many local updates: now, or when the last is no more `pending`."""
        memory = Memory()
        if pending:
            self._awaited[peer, trainings] = memory
        else:
            memory.rows = self._state.export(peer)
        return memory

    @property
    def awaits(self) -> bool:
        """Whether any peer's local update is waited for."""
        return bool(self._awaited)

    def trained(self, handle: Handle) -> None:
        """Note that a local update is computed."""
        memory = self._awaited.pop((handle.peer, handle.request.number), None)
        if memory is not None:
            memory.rows = self._state.export(handle.peer)

    def restore(self, peer: int, memory: Memory) -> None:
        """Take over what was remembered, which is computed."""
        if memory.rows is None:
            raise ProtocolMisuse("a checkpoint is read before what it holds is computed")
        self._state.restore(peer, memory.rows)
