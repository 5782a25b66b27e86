"""Tables beside the model: per class and origin, the sum over the origin's own samples of that class.

Prototypes as of Federated Reconnaissance (arXiv 2109.00150). A row is (origin, class) -> (version, samples, Σ f(x)),
and a table is a state-based CRDT: of two rows of one key the greater in (version, samples, sum) stays, a total order,
so in whatever order and however often tables are merged, the same rows are left. Sums are never added up on the way: a
mean of all peers' samples is made where it is wanted, out of the origins' own sums, so nobody's samples count twice.

A row is signed by its origin. Whoever passes it on can keep it back, or pass on an older one, which changes nothing
where the newer is known; nobody can change it, or make one for another peer. What a liar can do is lie of its own
samples: a false sum, of any number of them; what that is worth is for those who read the table (`gossip.channels`). A
version beyond all others locks its own row only. There is one row of an origin and a class, so the table is bounded:
classes × peers of the run.

An origin with few samples of a class says nothing of it: a sum of one sample is that sample. A row of no samples takes
an earlier one back. Only what a contact does not have is sent, as far as can be told from what went either way since
it came; what it was told longest ago comes last, so that no row that changes all the time keeps others back. Each row
stands for itself: one that is refused takes none of its message with it, for whoever passes it on may be honest, and
have read another peers file. Whoever reads its peers file again asks for everything, by a message without rows.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

from gossip.protocols.base import Context, Message, MessageRejected, PeerId

COUNT_MIN = 5
"""Samples of a class below which an origin says nothing of it."""
VERSION_MAX = 2**31
WIDTH_MAX = 4096
"""Numbers of a sum: as many as a message's longest field may hold."""
NUMBER_MAX = 1e9
"""Of a mean, in absolute value: what is summed and squared of it stays finite."""
MESSAGE_BYTES_MAX = 56 * 1024
"""Of the rows of a message: a small document, 64 KiB, has room for what stands around them."""
TOLD_MESSAGES_MAX = 16
"""To one contact at a time, the rest at the next: what is short passes models under way, and a large table would hold
them up, and fill the queue of what is to be sent."""
NEWER_MAX = 4
"""Versions of one row that a contact may bring between two times that the own table is told: each is a signature to be
checked, and of its own rows a liar can sign any number. Samples change with restarts, so the honest bring one."""
UNSIGNED_MAX = 16
"""Rows with false signatures that a contact may bring in the same time: the honest pass on none, unless a key in the
peers file was changed."""
_ROW_BYTES = 128
"""Of a row beside its name and its sum, at most: numbers, a signature, and where they begin."""

Key: TypeAlias = tuple[int, str]
"""Class and origin."""

Own: TypeAlias = Mapping[int, tuple[int, bytes]]
"""Class -> how many own samples there are of it, and their sum as float32, little-endian."""


class Row(NamedTuple):
    """As it travels."""

    origin: str
    label: int
    version: int
    """From 1; greater whenever the origin has other samples of the class than it last said."""
    samples: int
    sums: bytes
    """Σ f(x), float32, little-endian; nothing where there are no samples any more."""
    signature: bytes

    @property
    def key(self) -> Key:
        """What it speaks of."""
        return (self.label, self.origin)

    @property
    def order(self) -> tuple[int, int, bytes]:
        """The greater stays; rows that an origin signed to contradict itself have an order, too."""
        return (self.version, self.samples, self.sums)

    @property
    def content(self) -> tuple[int, bytes]:
        """What it says."""
        return (self.samples, self.sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMessage(Message):
    """Rows that the receiver may not have; each is signed by its own origin. None: the sender wants all there are."""

    kind: ClassVar[str] = "prototypes"
    rows: tuple[tuple[str, int, int, int, bytes, bytes], ...]
    """The fields of each `Row`; plain tuples are what travels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a run's tables have in common."""

    run: str
    """Names the run: signatures of another are of no use."""
    classes: int
    width: int
    """Numbers of f(x)."""

    def fits(self, row: Row) -> bool:
        """Return whether a row, signed or not, is one of such a table."""
        if not 0 <= row.label < self.classes or not 1 <= row.version <= VERSION_MAX:
            return False
        if row.samples < COUNT_MIN or len(row.sums) != 4 * self.width:
            return row.content == (0, b"")
        largest = float(np.abs(numbers(row.sums)).max(initial=0.0))
        return largest <= NUMBER_MAX * row.samples  # which no infinity is, nor what is no number

    def statement(self, row: Row) -> bytes:
        """Return what the origin signs."""
        said = hashlib.blake2b(row.sums, digest_size=32).hexdigest()
        parts = [
            "gossip-node has samples",
            self.run,
            row.origin,
            row.label,
            row.version,
            row.samples,
            said,
        ]
        return json.dumps(parts).encode()


class Table:
    """What one peer knows, and has told.

    Args:
        shape: of the run.
        own: returns what a peer, always this one, has samples of; asked once, at the start.
        state: what `saved` returned for the checkpoint; else empty.
    """

    __slots__ = (
        "_own",
        "_peers_given",
        "_peers_known",
        "_rows",
        "_saved",
        "_shape",
        "_sorted",
        "_taken",
        "_told",
        "_unasked",
        "_unsigned",
    )

    def __init__(
        self, shape: Shape, own: Callable[[PeerId], Own], state: Mapping[str, int | float | str]
    ) -> None:
        self._shape = shape
        self._own = own
        self._rows: dict[Key, Row] = {}
        self._sorted: tuple[Row, ...] | None = None
        self._told: dict[PeerId, dict[Key, Row]] = {}
        """What each contact has, by what went either way since it came."""
        self._taken: dict[PeerId, Counter[Key]] = {}
        """How many newer versions of a row each contact has brought since the table was told."""
        self._unsigned: Counter[PeerId] = Counter()
        """How many rows with false signatures each contact has brought since then."""
        self._unasked: set[PeerId] = set()
        """Who is to be asked for everything: the peers file was read again."""
        self._peers_given: Sequence[PeerId] = ()
        self._peers_known: frozenset[PeerId] = frozenset()
        self._saved = ""
        """The rows as a checkpoint has them; "" where they have changed since."""
        if state.get("table_run") == shape.run:
            self._saved = str(state["table"])
            for origin, label, version, samples, sums, signature in json.loads(self._saved):
                row = Row(origin, label, version, samples, b64decode(sums), b64decode(signature))
                if shape.fits(row):
                    self._rows[row.key] = row

    def saved(self) -> Mapping[str, int | float | str]:
        """Return what a checkpoint must hold of it."""
        if not self._saved:
            rows = [
                [*row[:4], b64encode(row.sums).decode(), b64encode(row.signature).decode()]
                for row in self._rows.values()
            ]
            self._saved = json.dumps(rows, separators=(",", ":"))
        return {"table_run": self._shape.run, "table": self._saved}

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is known, by class and origin; the same tuple while that stays the same."""
        if self._sorted is None:
            self._sorted = tuple(self._rows[key] for key in sorted(self._rows))
        return self._sorted

    def begin(self, ctx: Context) -> None:
        """Take up own samples: a new version of whatever is not as a former life has said it."""
        self._peers(ctx)
        own = {label: said for label, said in self._own(ctx.peer).items() if said[0] >= COUNT_MIN}
        said_before = {label for label, origin in self._rows if origin == ctx.peer}
        for label in sorted(own.keys() | said_before):
            self._say(ctx, label, own.get(label, (0, b"")))

    def _say(self, ctx: Context, label: int, content: tuple[int, bytes]) -> None:
        known = self._rows.get((label, ctx.peer))
        if known is not None and known.content == content:
            return
        version = 1 if known is None else known.version + 1
        row = Row(ctx.peer, label, version, *content, b"")
        self._keep(row._replace(signature=ctx.sign(self._shape.statement(row))))

    def heard(self, ctx: Context, sender: PeerId, message: TableMessage) -> None:
        """Take the rows that are newer than those known, and can be true."""
        if not message.rows:
            self.forget_told(sender)
            return
        told = self._told.setdefault(sender, {})
        refused: dict[str, None] = {}
        for said in message.rows:
            row = Row(*said)
            known = self._rows.get(row.key)
            if known is None or row.order > known.order:
                reason = self._reason_to_refuse(ctx, sender, row)
                if reason is not None:
                    refused[reason] = None
                    continue
                known = self._take(ctx, row)
            if known.order == row.order:
                told[row.key] = known
        for reason in refused:
            ctx.emit(MessageRejected(sender=sender, reason=reason))

    def _reason_to_refuse(self, ctx: Context, sender: PeerId, row: Row) -> str | None:
        if row.origin not in self._peers(ctx) or not self._shape.fits(row):
            return "no-such-row"
        taken = self._taken.setdefault(sender, Counter())
        taken[row.key] += 1
        if taken[row.key] > NEWER_MAX or self._unsigned[sender] >= UNSIGNED_MAX:
            return "too-often"
        if not ctx.verify(row.origin, self._shape.statement(row), row.signature):
            self._unsigned[sender] += 1
            return "not-signed"
        return None

    def _take(self, ctx: Context, row: Row) -> Row:
        """Keep a newer row. An own one is of a former life whose checkpoint is lost: what holds now comes after it."""
        known = self._rows.get(row.key)
        self._keep(row)
        if row.origin == ctx.peer:
            self._say(ctx, row.label, (0, b"") if known is None else known.content)
        return self._rows[row.key]

    def _keep(self, row: Row) -> None:
        self._rows[row.key] = row
        self._changed()

    def _changed(self) -> None:
        self._saved, self._sorted = "", None

    def forget_told(self, contact: PeerId) -> None:
        """Tell a contact everything anew: it may have begun anew itself."""
        self._told.pop(contact, None)

    def tell(self, ctx: Context, contacts: Iterable[PeerId]) -> None:
        """Send the contacts that are up what they do not have, own samples first."""
        self._peers(ctx)
        self._taken.clear()
        self._unsigned.clear()
        for peer in sorted(contacts):
            if ctx.is_up(peer):
                self.tell_one(ctx, peer)

    def tell_one(self, ctx: Context, peer: PeerId) -> None:
        """Send a contact what it does not have, and ask it for everything, if that is due."""
        if peer in self._unasked:
            self._unasked.discard(peer)
            ctx.send(peer, TableMessage(rows=()))
        told = self._told.setdefault(peer, {})
        news = [row for row in self.rows if told.get(row.key) is not row]
        if not news:
            return
        last = {key: place for place, key in enumerate(told)}
        news.sort(key=lambda row: (row.origin != ctx.peer, last.get(row.key, -1)))
        for rows in islice(_portions(news), TOLD_MESSAGES_MAX):
            ctx.send(peer, TableMessage(rows=tuple((*row,) for row in rows)))
            for row in rows:
                told.pop(row.key, None)  # to the end of what was told
                told[row.key] = row

    def _peers(self, ctx: Context) -> frozenset[PeerId]:
        # The peers file may be read again while we run; the world then gives another sequence.
        if ctx.peers is not self._peers_given:
            self._unasked = set(ctx.peers) if self._peers_given else set()
            self._peers_given, self._peers_known = ctx.peers, frozenset(ctx.peers)
            for key in [key for key in self._rows if key[1] not in self._peers_known]:
                del self._rows[key]
                self._changed()
        return self._peers_known


def numbers(sums: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return a row's sum (width,)."""
    return np.frombuffer(sums, dtype="<f4")


def _portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows in portions that fit into a message."""
    together: list[Row] = []
    nbytes = 0
    for row in rows:
        row_bytes = _ROW_BYTES + len(row.origin.encode()) + len(row.sums)
        if together and nbytes + row_bytes > MESSAGE_BYTES_MAX:
            yield together
            together, nbytes = [], 0
        together.append(row)
        nbytes += row_bytes
    if together:
        yield together
