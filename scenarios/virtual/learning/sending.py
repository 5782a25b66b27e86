"""What receivers get to hold of models: shaped by `[outgoing]`, and as the codec leaves them; many at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np
import torch

from gossip import plugins, seeding
from gossip.draws import Draws
from gossip.outgoing.base import Outgoing, apart_by, sent_by
from gossip.privacy.entropy import Indices, Numbers
from gossip.protocols.base import WHOLE, Message, Part
from gossip.returned import check_tensor
from gossip.stages import PeerState
from gossip.wire.codecs.base import Codec, Linked
from gossip.wire.wholes import Turn
from scenarios.virtual.learning import requests
from scenarios.virtual.learning.arena import Arena, Handle

Note: TypeAlias = Callable[[requests.Request], Handle]
"""Notes a request of the sender's."""


class Sending:
    """Computes `requests.Shape` and `requests.Send`.

    Args:
        arena: where models lie.
        outgoing, codec: of all peers.
        state: what peers remember for the outgoing stage.
        told: what they remember for the codec.
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
        told: PeerState,
        *,
        unshaped: Collection[int],
        learned: int,
        chunk: int,
    ) -> None:
        self._unshaped = frozenset(unshaped)
        self._arena = arena
        self._outgoing = outgoing
        self._codec = codec
        self.own_coded = codec.own_coded
        """Whether merges need what others hold of a peer's own model."""
        self.shapes = not outgoing.nothing
        """Whether a model becomes another one before it is coded."""
        self.varies = any(spec.shorter for spec in codec.specs(learned))
        """Whether only a model's numbers tell how many bytes it takes."""
        self._state = state
        self._told = told
        self._learned = learned
        self._chunk = chunk

    @property
    def needed(self) -> bool:
        """Whether receivers hold anything else than what the sender has."""
        return self.shapes or not self._codec.exact

    @property
    def reference(self) -> str:
        """What receivers must hold to use what comes: "none", "own" or "link"."""
        return self._codec.reference

    @property
    def refers(self) -> bool:
        """Whether that is anything, so that some models must go whole."""
        return self._codec.reference != "none"

    @property
    def rate(self) -> float:
        """By how much of what mixing changes of the own copy the own model moves."""
        return self._codec.rate if isinstance(self._codec, Linked) else 1.0

    @property
    def ordered(self) -> set[type]:
        """Return which of a peer's requests must be computed in their order."""
        kinds: set[type] = {requests.Shape} if self._state.keeps("outgoing") else set()
        return kinds | {requests.Send} if self._told.keeps("codec") else kinds

    def shaped(self, model: Handle, draws: Draws, note: Note, to: requests.To | None = None) -> Handle:
        """Return the model as it is before it is coded, where that is another one."""
        return note(requests.Shape(model, draws, to))

    def coded(self, shaped: Handle, message: Message, draws: Draws, turn: Turn, note: Note) -> Handle:
        """Return the model as receivers hold it, to be completed by them where it is partial."""
        if self._codec.exact or (message.whole and self._codec.reference != "own"):
            return shaped
        whole = self.refers and turn.whole
        handle = note(
            requests.Send(shaped, draws, message.piece or WHOLE, turn.number if self.refers else 0, whole)
        )
        handle.partial = self._codec.reference == "own" and not whole
        return handle

    def shape(self, handles: list[Handle]) -> None:
        """Compute what is sent before it is coded."""
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            chosen = handles[start : start + self._chunk]
            models = self._arena.copied([handle.request.own.row for handle in chosen])
            learned = models[:, : self._learned]
            draws = [handle.request.draws for handle in chosen]
            at = [place for place, handle in enumerate(chosen) if handle.request.to is None]
            self._shape(learned, [handle.peer for handle in chosen], draws, at)
            self._set_apart(learned, chosen)
            self._place(rows[start : start + len(chosen)], models, chosen)

    def run(self, handles: list[Handle]) -> None:
        """Compute what receivers get."""
        # Rows that adjoin are copied faster; each model is coded by itself, in whatever order.
        handles.sort(key=lambda handle: (handle.request.whole, handle.request.part, handle.request.own.row))
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            chosen = handles[start : start + self._chunk]
            models = self._arena.copied([handle.request.own.row for handle in chosen])
            placed = rows[start : start + len(chosen)]
            if self.refers:
                self._tell(models[:, : self._learned], chosen, placed)
            elif self.varies:
                self._encode(models[:, : self._learned], chosen)
            else:
                self._code(models[:, : self._learned], chosen)
            self._place(placed, models, chosen)

    def _place(self, rows: list[int], models: torch.Tensor, handles: Sequence[Handle]) -> None:
        self._arena.put(rows, models)
        for handle, row in zip(handles, rows, strict=True):
            handle.place(row)

    def _set_apart(self, learned: torch.Tensor, handles: Sequence[Handle]) -> None:
        """Add to each of `learned` (n, L) what is for one neighbour alone; those of one message adjoin."""
        known: tuple[object, torch.Tensor] = (None, learned)
        for row, handle in zip(learned, handles, strict=True):
            to, draws = handle.request.to, handle.request.draws
            if to is None or handle.peer in self._unshaped:
                continue
            if known[0] != (draws, to.weights):
                secret = _Secret(draws)
                with plugins.blamed(self._outgoing, "[outgoing]"):
                    apart = apart_by(self._outgoing, self._learned, to.weights, secret)
                known = (draws, to.weights), apart
            row += known[1][to.place].to(row.device)

    def _shape(
        self, learned: torch.Tensor, peers: Sequence[int], draws: Sequence[Draws], among: Sequence[int]
    ) -> None:
        """Replace each of `learned` (n, L) that is one of those places by what its peer sends to everybody."""
        at = [place for place in among if peers[place] not in self._unshaped]
        if not at:
            return
        shaping = [peers[place] for place in at]
        with plugins.blamed(self._outgoing, "[outgoing]"):
            rows = self._state.gather("outgoing", shaping)
            shaped, state = sent_by(self._outgoing, learned[at], rows, [draws[place] for place in at])
        self._state.scatter("outgoing", shaping, state)
        learned[at] = shaped

    def _code(self, learned: torch.Tensor, handles: Sequence[Handle]) -> None:
        """Replace the part that travels of each of `learned` (n, L); equal parts adjoin."""
        draws = [handle.request.draws for handle in handles]
        parts: list[Part] = [handle.request.part for handle in handles]
        first = 0
        while first < len(parts):
            end = first + parts[first:].count(parts[first])
            start, stop = parts[first].bounds(self._learned)
            with plugins.blamed(self._codec, "[codec]"):
                coded = self._codec.coded(learned[first:end, start:stop].contiguous(), draws[first:end])
                check_tensor(coded, (end - first, stop - start), "coded returns")
            learned[first:end, start:stop] = coded
            first = end

    def _encode(self, learned: torch.Tensor, handles: Sequence[Handle]) -> None:
        """As `_code`, one by one, and note the tensors of each."""
        for row, handle in zip(learned, handles, strict=False):
            start, stop = handle.request.part.bounds(self._learned)
            with plugins.blamed(self._codec, "[codec]"):
                tensors = self._codec.encode(row[start:stop].cpu(), handle.request.draws)
                decoded = self._codec.decode_as(tensors, stop - start)
                check_tensor(decoded, (stop - start,), f"decode returns for {stop - start} numbers")
            row[start:stop] = decoded
            handle.specs = tuple(tensor.spec for tensor in tensors)

    def _tell(self, learned: torch.Tensor, handles: Sequence[Handle], rows: Sequence[int]) -> None:
        """Replace each of `learned` (n, L), of which some go whole, by what comes of it."""
        for whole in (False, True):
            at = [place for place, handle in enumerate(handles) if handle.request.whole is whole]
            if not at:
                continue
            peers = [handles[place].peer for place in at]
            numbers = [handles[place].request.number for place in at]
            state = self._told.gather("codec", peers)
            if whole:
                state = self._codec.told_whole(learned[at], state, numbers=numbers)
            else:
                draws = [handles[place].request.draws for place in at]
                coded, state = self._codec.held(learned[at], state, draws, numbers=numbers)
                learned[at] = coded.values
                if coded.there is not None:
                    self._arena.put_there([rows[place] for place in at], coded.there)
            self._told.scatter("codec", peers, state)


class _Secret:
    """A simulated peer's secret for one message: of the run's seed, and so the same whenever it is asked for."""

    def __init__(self, draws: Draws) -> None:
        self._generator = seeding.generator(draws.seed, "privacy", peer=draws.peer, round=draws.number)

    def chosen(self, samples: int, rate: float) -> Indices:
        """Return which samples a step takes."""
        return np.flatnonzero(self._generator.random(samples) < rate)

    def normals(self, count: int) -> Numbers:
        """Return standard normal numbers."""
        return self._generator.standard_normal(count)
