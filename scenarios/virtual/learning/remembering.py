"""What simulated peers remember beside their models, as of their checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gossip.errors import ProtocolMisuse
from gossip.learner import Learner
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
        learner_of: of peers who are trained alone: their learner remembers what belongs to that.
    """

    def __init__(self, state: PeerState, learner_of: Callable[[int], Learner] | None) -> None:
        self._state = state
        self._learner_of = learner_of
        self._awaited: dict[tuple[int, int], Memory] = {}

    def remember(self, peer: int, trainings: int, *, pending: bool) -> Memory:
        """Return what the peer remembers after so many local updates: now, or when the last is no more `pending`."""
        memory = Memory()
        if pending:
            self._awaited[peer, trainings] = memory
        else:
            memory.rows = self._rows_of(peer)
        return memory

    def trained(self, handle: Handle) -> None:
        """Note that a local update is computed."""
        if self._awaited:
            memory = self._awaited.pop((handle.peer, handle.request.number), None)
            if memory is not None:
                memory.rows = self._rows_of(handle.peer)

    def restore(self, peer: int, memory: Memory) -> None:
        """Take over what was remembered, which is computed."""
        if memory.rows is None:
            raise ProtocolMisuse("a checkpoint is read before what it holds is computed")
        for state, row in self._states_of(peer):
            state.restore(row, {name: memory.rows[name] for name in state.names})

    def _states_of(self, peer: int) -> list[tuple[PeerState, int]]:
        states = [(self._state, peer)]
        if self._learner_of is not None:
            states.append((self._learner_of(peer).state, 0))
        return states

    def _rows_of(self, peer: int) -> dict[str, Tensor]:
        return {name: row for state, k in self._states_of(peer) for name, row in state.export(k).items()}
