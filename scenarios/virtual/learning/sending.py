"""What receivers get to hold of models: shaped by `[outgoing]`, and as the codec leaves them; many at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from gossip import plugins
from gossip.draws import Draws
from gossip.outgoing.base import Outgoing
from gossip.protocols.base import Part
from gossip.stages import PeerState
from gossip.wire.codecs.base import Codec
from scenarios.virtual.learning.arena import Arena, Handle


class Sending:
    """Computes `requests.Send`.

    Args:
        arena: where models lie.
        outgoing, codec: of all peers.
        state: what peers remember for the outgoing stage.
        unshaped: peers whose models are sent as they made them: attackers.
        learned: how many numbers travel.
        chunk: how many models are computed at once.
    """

    def __init__(
        self,
        arena: Arena,
        outgoing: Outgoing,
        codec: Codec,
        state: PeerState,
        *,
        unshaped: Collection[int],
        learned: int,
        chunk: int,
    ) -> None:
        self._unshaped = frozenset(unshaped)
        self._arena = arena
        self._outgoing = outgoing
        self._codec = codec
        self._state = state
        self._learned = learned
        self._chunk = chunk

    @property
    def needed(self) -> bool:
        """Whether receivers hold anything else than what the sender has."""
        return not (self._codec.exact and self._outgoing.nothing)

    @property
    def own_coded(self) -> bool:
        """Whether merges need what others hold of a peer's own model."""
        return self._codec.own_coded

    @property
    def varies(self) -> bool:
        """Whether only a model's numbers tell how many bytes it takes."""
        return any(spec.shorter for spec in self._codec.specs(self._learned))

    @property
    def remembers(self) -> bool:
        """Whether a peer's models must be sent in their order."""
        return self._state.keeps("outgoing")

    def run(self, handles: list[Handle]) -> None:
        """Compute what is sent."""
        handles.sort(key=lambda handle: (handle.request.whole, handle.request.part))
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            chosen = handles[start : start + self._chunk]
            models = self._arena.at([handle.request.own.row for handle in chosen]).clone()
            draws = [handle.request.draws for handle in chosen]
            learned = models[:, : self._learned]
            if not self._outgoing.nothing:
                self._shape(learned, [handle.peer for handle in chosen], draws)
            if not self._codec.exact:
                # Whole ones are last, and stay as they are.
                coded = [handle for handle in chosen if not handle.request.whole]
                if self.varies:
                    self._encode(learned, coded)
                else:
                    self._code(learned, [handle.request.part for handle in coded], draws)
            placed = rows[start : start + len(chosen)]
            self._arena.put(placed, models)
            for handle, row in zip(chosen, placed, strict=True):
                handle.place(row)

    def _shape(self, learned: torch.Tensor, peers: Sequence[int], draws: Sequence[Draws]) -> None:
        """Replace each of `learned` (n, L) by what its peer sends."""
        at = [place for place, peer in enumerate(peers) if peer not in self._unshaped]
        if not at:
            return
        shaping = [peers[place] for place in at]
        with plugins.blamed(self._outgoing, "[outgoing]"):
            shaped, state = self._outgoing.send(
                learned[at], self._state.gather("outgoing", shaping), [draws[place] for place in at]
            )
        self._state.scatter("outgoing", shaping, state)
        learned[at] = shaped

    def _code(self, learned: torch.Tensor, parts: Sequence[Part], draws: Sequence[Draws]) -> None:
        """Replace the part that travels of each of `learned` (n, L); equal parts adjoin."""
        first = 0
        while first < len(parts):
            end = first + parts[first:].count(parts[first])
            start, stop = parts[first].bounds(self._learned)
            with plugins.blamed(self._codec, "[codec]"):
                learned[first:end, start:stop] = self._codec.coded(
                    learned[first:end, start:stop].contiguous(), draws[first:end]
                )
            first = end

    def _encode(self, learned: torch.Tensor, handles: Sequence[Handle]) -> None:
        """As `_code`, one by one, and note the tensors of each."""
        for row, handle in zip(learned, handles, strict=False):
            start, stop = handle.request.part.bounds(self._learned)
            with plugins.blamed(self._codec, "[codec]"):
                tensors = self._codec.encode(row[start:stop].cpu(), handle.request.draws)
                row[start:stop] = self._codec.decode_as(tensors, stop - start)
            handle.specs = tuple(tensor.spec for tensor in tensors)
