"""Everybody's numbers summed, by gossip: a state machine without clocks and sockets.

    1  HAVE     each peer tells all what its table has; who begins again tells it anew, and the later word counts
    2  seeds    each pair of neighbours tells each other half of a mask
    3  SHARE    each peer tells all its numbers under its masks; all sums are the same, and exact
    4  RESULT   each peer tells all the digest of what it has made of the sums; all have the same, or nothing is made

What is told to all is passed on once by everybody to its neighbours, and signed by who said it, so that nobody on the
way can change it. Whoever is connected anew is told all there is. Every set of HAVEs is a session of its own, with
other masks: a share that is not of the present one is of no use to anybody, and is let go.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gossip.agreeing import masks
from gossip.agreeing.messages import HAVE, RESULT, SHARE, MaskSeed, NothingMore, Statement
from gossip.errors import DataError, GossipError
from gossip.protocols.base import Message, PeerId

PART_BYTES = 15 * 1024
PARTS_MAX = 256
"""4 MB of one peer: a thousand columns take 288 KB."""

BEGINNINGS_MAX = 32
"""Of one peer; one that begins for ever would keep all from ever ending."""

NAME_BYTES = 32


@dataclass(slots=True)
class Said:
    """What one peer has said in one step, as far as it has come."""

    key: tuple[int, bytes]
    """When it began, and its session: the larger one is newer."""
    parts: dict[int, Statement] = field(default_factory=dict)

    @property
    def whole(self) -> bytes | None:
        """All of it, None while parts are lacking."""
        if not self.parts or len(self.parts) < self.parts[min(self.parts)].parts:
            return None
        return b"".join(self.parts[part].payload for part in sorted(self.parts))


class Exchange:
    """One peer's side.

    Args:
        me: this peer.
        peers: all, this one included.
        neighbours: whom this one talks to, and shares masks with.
        have: what this one tells all.
        share: given what everybody has, returns this peer's numbers, or raises `DataError`.
        result: given that and the sums of everybody's numbers, returns what all will have, or raises `DataError`.
        run_id: what the peers have in common; it is signed.
        began_us: when this process began.
        send: to a neighbour; to one that is down it is dropped.
        sign: signs a statement as this peer.
        verify: whether a peer has signed a statement.
        draw: so many random bytes, of the operating system.
    """

    def __init__(
        self,
        *,
        me: PeerId,
        peers: Sequence[PeerId],
        neighbours: Sequence[PeerId],
        have: bytes,
        share: Callable[[Mapping[PeerId, bytes]], Sequence[int]],
        result: Callable[[Mapping[PeerId, bytes], Sequence[int]], bytes],
        run_id: str,
        began_us: int,
        send: Callable[[PeerId, Message], None],
        sign: Callable[[bytes], bytes],
        verify: Callable[[PeerId, bytes, bytes], bool],
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._me, self._peers, self._neighbours = me, tuple(sorted(peers)), tuple(sorted(neighbours))
        self._share_of, self._result_of = share, result
        self._run_id, self._began_us = run_id, began_us
        self._send, self._sign, self._verify = send, sign, verify
        self._draw = draw
        self._instance = draw(NAME_BYTES)
        self._own_seeds = {peer: draw(masks.SEED_BYTES) for peer in self._neighbours}
        self._seeds: dict[PeerId, tuple[bytes, bytes]] = {}
        self._said: dict[int, dict[PeerId, Said]] = {HAVE: {}, SHARE: {}, RESULT: {}}
        self._beginnings: dict[PeerId, int] = {}
        self._session: bytes | None = None
        self._numbers: Sequence[int] = ()
        self._made: bytes | None = None
        self.outcome: bytes | None = None
        """What all peers have; None until all are known to have it."""
        self.failure: GossipError | None = None
        """Why nothing can come of it."""
        self.content: set[PeerId] = set()
        """Neighbours that need nothing more."""
        self._have = have
        self._say(HAVE, self._instance, have)

    # --- what happens ---

    def on_peer(self, peer: PeerId, up: bool) -> None:
        """A neighbour can be reached, or no longer."""
        self.content.discard(peer)
        if not up or peer not in self._neighbours:
            return
        self._send(peer, MaskSeed(instance=self._instance, seed=self._own_seeds[peer]))
        for step in (HAVE, SHARE, RESULT):
            for said in self._said[step].values():
                for statement in said.parts.values():
                    self._send(peer, statement)
        if self.over:
            self._send(peer, NothingMore())

    def on_message(self, sender: PeerId, message: Message) -> str | None:
        """Take in what has come; return in a word why it was of no use, None where it was in order."""
        if sender not in self._neighbours:
            return "no neighbour"
        match message:
            case MaskSeed():
                if len(message.seed) != masks.SEED_BYTES or len(message.instance) != NAME_BYTES:
                    return "seed"
                self._seeds[sender] = (message.instance, message.seed)
            case NothingMore():
                self.content.add(sender)
            case Statement():
                return None if self.over else self._hear(sender, message)
            case _:
                return "unknown"
        self._advance()
        return None

    @property
    def over(self) -> bool:
        """Whether there is an outcome, or none will come."""
        return self.outcome is not None or self.failure is not None

    def missing(self) -> tuple[str, frozenset[PeerId]]:
        """Return what is waited for, and of whom."""
        if self._session is None:
            return "what its table has", self._lacking(HAVE)
        unmasked = frozenset(peer for peer in self._neighbours if not self._has_seed(peer))
        if unmasked and self._me not in self._said[SHARE]:
            return "its half of a mask", unmasked
        step = SHARE if self._lacking(SHARE) else RESULT
        return ("its masked numbers", "its result")[step == RESULT], self._lacking(step)

    # --- statements ---

    def _hear(self, sender: PeerId, told: Statement) -> str | None:
        if told.origin not in self._peers or told.step not in self._said or len(told.session) != NAME_BYTES:
            return "statement"
        if not 0 <= told.part < told.parts <= PARTS_MAX:
            return "statement"
        known = self._said[told.step].get(told.origin)
        key = (told.began_us, told.session)
        if told.step == HAVE and told.origin == self._me:
            self._outdo(told)
            return None
        if known is not None and key < known.key if told.step == HAVE else told.session != self._session:
            return None  # stale
        if known is not None and known.key == key and told.part in known.parts:
            return None if known.parts[told.part] == told else "contradiction"
        if not self._verify(told.origin, told.signed(self._run_id), told.signature):
            return "signature"
        if known is None or key != known.key:
            if known is not None and told.step != HAVE:
                return "contradiction"
            known = self._begin(told, key)
        elif known.parts and next(iter(known.parts.values())).parts != told.parts:
            return "contradiction"
        known.parts[told.part] = told
        self._pass_on(told, but=sender)
        self._advance()
        return None

    def _begin(self, told: Statement, key: tuple[int, bytes]) -> Said:
        """Take in a peer's first word of a step, or that it has begun again: then all shares are void."""
        if told.step == HAVE:
            count = self._beginnings[told.origin] = self._beginnings.get(told.origin, 0) + 1
            if count > BEGINNINGS_MAX:
                self._fail(DataError(f"{told.origin} begins again and again; start again without it"))
            self._void()
        said = self._said[told.step][told.origin] = Said(key)
        return said

    def _outdo(self, told: Statement) -> None:
        """Begin later than an earlier start of this peer did, whose word would count: the clock has gone back."""
        if told.began_us < self._began_us or told.session == self._instance:
            return
        if self._verify(self._me, told.signed(self._run_id), told.signature):
            self._began_us = told.began_us + 1
            self._instance = self._draw(NAME_BYTES)
            self._void()
            for peer in self._neighbours:
                self._send(peer, MaskSeed(instance=self._instance, seed=self._own_seeds[peer]))
            self._say(HAVE, self._instance, self._have)
            self._advance()

    def _void(self) -> None:
        """Let go of what came of an earlier set of HAVEs."""
        self._session, self._made = None, None
        self._said[SHARE].clear()
        self._said[RESULT].clear()

    def _say(self, step: int, session: bytes, payload: bytes) -> None:
        pieces = [payload[at : at + PART_BYTES] for at in range(0, len(payload), PART_BYTES)] or [b""]
        if len(pieces) > PARTS_MAX:
            raise DataError(
                f"the table has too much to tell: {len(payload)} bytes, and {PARTS_MAX * PART_BYTES} can be told; "
                "leave out columns of names, dates or free text ([data] drop)"
            )
        said = self._said[step][self._me] = Said((self._began_us, session))
        for part, piece in enumerate(pieces):
            bare = Statement(
                origin=self._me,
                step=step,
                began_us=self._began_us,
                session=session,
                part=part,
                parts=len(pieces),
                payload=piece,
                signature=b"",
            )
            told = replace(bare, signature=self._sign(bare.signed(self._run_id)))
            said.parts[part] = told
            self._pass_on(told)

    def _pass_on(self, told: Statement, *, but: PeerId | None = None) -> None:
        for peer in self._neighbours:
            if peer != but:
                self._send(peer, told)

    # --- from step to step ---

    def _advance(self) -> None:
        try:
            if not self.over and self._session is None and not self._lacking(HAVE):
                self._numbers = self._share_of(self._told())
                self._session = self._common_session()
            if not self.over and self._session is not None:
                self._share_when_masked(self._session)
                self._make_when_shared(self._session)
                self._end_when_equal()
        except DataError as error:
            self._fail(error)

    def _share_when_masked(self, session: bytes) -> None:
        if self._me in self._said[SHARE] or not all(map(self._has_seed, self._neighbours)):
            return
        rows = [self._numbers]
        for peer in self._neighbours:
            rows.append(
                masks.mask(
                    own=self._me,
                    other=peer,
                    own_seed=self._own_seeds[peer],
                    other_seed=self._seeds[peer][1],
                    session=session,
                    count=len(self._numbers),
                )
            )
        self._say(SHARE, session, masks.packed(masks.added(rows)))

    def _make_when_shared(self, session: bytes) -> None:
        if self._made is not None or self._lacking(SHARE):
            return
        rows = []
        for peer in self._peers:
            try:
                row = masks.integers(self._whole(SHARE, peer))
            except ValueError:
                row = []
            if len(row) != len(self._numbers):
                raise DataError(
                    f"{peer} tells other numbers than are asked for; does it run the same version?"
                )
            rows.append(row)
        self._made = self._result_of(self._told(), [masks.signed(number) for number in masks.added(rows)])
        self._say(RESULT, session, _digest(self._made))

    def _end_when_equal(self) -> None:
        if self._made is None or self._lacking(RESULT):
            return
        own = _digest(self._made)
        other = next((peer for peer in self._peers if self._whole(RESULT, peer) != own), None)
        if other is not None:
            raise DataError(
                f"{other} has made something else of the same numbers; does it run the same version?"
            )
        self.outcome = self._made
        self._tell_end()

    def _fail(self, error: GossipError) -> None:
        if not self.over:
            self.failure = error
            self._tell_end()

    def _tell_end(self) -> None:
        for peer in self._neighbours:
            self._send(peer, NothingMore())

    # --- what is there ---

    def _lacking(self, step: int) -> frozenset[PeerId]:
        said = self._said[step]
        return frozenset(peer for peer in self._peers if peer not in said or said[peer].whole is None)

    def _whole(self, step: int, peer: PeerId) -> bytes:
        whole = self._said[step][peer].whole
        assert whole is not None
        return whole

    def _told(self) -> dict[PeerId, bytes]:
        return {peer: self._whole(HAVE, peer) for peer in self._peers}

    def _has_seed(self, peer: PeerId) -> bool:
        instance, _ = self._seeds.get(peer, (b"", b""))
        return instance == self._said[HAVE][peer].key[1]

    def _common_session(self) -> bytes:
        digest = hashlib.blake2b(self._run_id.encode(), digest_size=NAME_BYTES)
        for peer in self._peers:
            digest.update(_digest(peer.encode()) + self._said[HAVE][peer].key[1])
            digest.update(_digest(self._whole(HAVE, peer)))
        return digest.digest()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
