"""The peers of a file agree on statistics over the connections that a run would use, and write them down."""

from __future__ import annotations

import logging
import math
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import networkx as nx
import trio

from gossip import seeding
from gossip.agreeing.exchange import Exchange
from gossip.agreeing.tables import Have, common, own_sums, statistics
from gossip.config import agreed
from gossip.config.layers import Layer, parse_override, read_file
from gossip.config.task import digest
from gossip.errors import ExitCode, SettingError, TooFewPeers
from gossip.learning.data.measuring import Own, own_table
from gossip.net import signing
from gossip.net.local import Local
from gossip.net.neighbours import NeighbourTable
from gossip.node.home import HomeLock
from gossip.node.options import NodeOptions
from gossip.node.running import sole_error
from gossip.node.setup import Membership, find_membership
from gossip.node.signals import watch_signals
from gossip.node.waits import Waits
from gossip.protocols.base import Message, PeerId, Waiting
from gossip.storage.atomic import write_atomically
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.logs import set_up_logging
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.float32 import Float32

logger = logging.getLogger("gossip.agreeing")

DEFAULT_FILE = "statistics.toml"

PEERS_MIN = 3
"""Of two, each knows the other's numbers from the sum and its own."""

LINGER_S = 10.0
"""After the end: for neighbours that lack something that only we may still have."""

TICK_S = 0.5

CUTS_PEERS_MAX = 64
"""Among more peers, how many it takes to cut the graph is not counted."""

QUEUE_MAX = 1_000_000
"""Small messages that may wait for one neighbour: what all peers have said, at once, to one that has come late."""


def agree(options: NodeOptions, *, out: Path | None, force: bool, wait_s: float, count_min: int) -> ExitCode:
    """Agree, and write the file.

    Args:
        options: of the command line.
        out: the file; None: which `[data] statistics` names.
        force: replace a file that is there.
        wait_s: for the others.
        count_min: rows that a text must be in to be told.

    Raises:
        UserError: with one sentence.
    """
    membership = find_membership(options)
    path = _path(options, membership, out)
    if path.exists() and not force:
        raise SettingError(f"{path}: is there already; --force to agree anew, or give another --out")
    if not path.parent.is_dir():
        raise SettingError(f"--out {path}: there is no folder {path.parent}")
    secrecy = _check(membership)
    settings = membership.settings
    lock = HomeLock(options.home)
    try:
        set_up_logging(membership.me.name, insecure=False)
        own = own_table(
            settings.data,
            folder=membership.folder,
            seed=settings.seed,
            classifies=bool(settings.objective.load()(settings.objective).classifies),
        )
        logger.info("%s", secrecy)
        _tell_rare(own, count_min)
        agreeing = Agreeing(options, membership, own, count_min=count_min, wait_s=wait_s)
        try:
            found = trio.run(agreeing.run)
        except BaseExceptionGroup as group:
            error = sole_error(group)
            if error is None:
                raise
            raise error from None
        if found is None:
            return ExitCode.INTERRUPTED
        _write(path, found, me=membership.me.name, force=force)
    finally:
        lock.release()
    print(
        f"{membership.me.name}: {len(membership.peers)} peers agree, the statistics are in {path} "
        f"({digest(found.decode())})",
        file=sys.stderr,
    )
    return ExitCode.DONE


def _path(options: NodeOptions, membership: Membership, out: Path | None) -> Path:
    if out is not None:
        return out.expanduser()
    layers = [] if options.task is None else [read_file(options.task)]
    layers += [Layer(options.arguments, "command line"), *map(parse_override, options.overrides)]
    return membership.folder / Path(agreed.file_of(layers) or DEFAULT_FILE).expanduser()


def _write(path: Path, content: bytes, *, me: PeerId, force: bool) -> None:
    """Write what was agreed on; peers of one machine may share the file, and write it at one time."""
    beside = path.with_name(f".{path.name}.{me}")
    try:
        if path.exists() and not force and path.read_bytes() != content:
            raise SettingError(
                f"{path}: has come to be there meanwhile, and is another one; give another --out"
            )
        write_atomically(beside, content)
        beside.replace(path)
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from None


def _check(membership: Membership) -> str:
    """Return who could find out a peer's own numbers.

    Raises:
        SettingError: one peer alone could; or there is nothing to agree on.
    """
    settings, peers = membership.settings, membership.peers
    if settings.data.statistics:
        raise SettingError(
            f"{settings.where('data')} statistics are given already; take [data.statistics] away to agree on others"
        )
    if settings.data.partition.kind != "own":
        raise SettingError(
            f"{settings.where('data')} partition.kind = '{settings.data.partition.kind}': one table is divided, and "
            "has its own statistics; peers agree where each has a table of its own, --data FILE"
        )
    if len(peers) < PEERS_MIN:
        raise SettingError(
            f"{peers.path}: {len(peers)} peers; of two each knows the other's numbers from the sums and its own, so "
            f"statistics take {PEERS_MIN} at least"
        )
    cut = _cut(membership)
    if cut < 2:
        raise SettingError(
            f"{settings.where('topology')} kind = '{settings.topology.kind}': one peer is all that others have as a "
            "way to the rest, and could find out their numbers; take one that no single peer cuts, e.g. ring or full"
        )
    return (
        f"sums of {len(peers)} peers under masks: fewer than {cut} of them together learn no more than the sum of all "
        "others; names of columns, categories and classes are told to all"
    )


def _cut(membership: Membership) -> int:
    """Return how many peers must go for the graph to fall apart, or for one to be left; 2 where it may be more."""
    peers = len(membership.peers)
    if membership.everybody:
        return peers - 1
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(peers))
    graph.add_edges_from((i, j) for i in range(peers) for j in membership.topology.contacts(i))
    if peers <= CUTS_PEERS_MAX:
        return int(nx.node_connectivity(graph))
    return 2 if nx.is_biconnected(graph) else 1


def _tell_rare(own: Own, count_min: int) -> None:
    for name, words in own.words.items():
        rows = sum(count for count in words.values() if count < count_min)
        if rows:
            logger.warning(
                "column '%s': %d rows have texts in fewer than %d rows, which are not told; unless other peers tell "
                "them, leave these rows out before you learn",
                name,
                rows,
                count_min,
            )


def sections(membership: Membership) -> dict[str, str]:
    """Return what all must have in common to agree: section -> digest."""
    settings = membership.settings
    common = {"seed": settings.seed, "topology": settings.topology.model_dump(mode="json", exclude={"path"})}
    common |= {f"data.{key}": value for key, value in settings.data.agreed().items() if key != "standardise"}
    common["objective"] = settings.objective.kind
    common["protocol"] = membership.everybody
    return {name: digest(value) for name, value in common.items()}


class Agreeing:
    """One peer's part in it."""

    def __init__(
        self, options: NodeOptions, membership: Membership, own: Own, *, count_min: int, wait_s: float
    ) -> None:
        settings = membership.settings
        self._membership, self._own, self._wait_s = membership, own, wait_s
        self._neighbours = frozenset(membership.contacts)
        self._activity = trio.Event()
        self._leaving = trio.CancelScope()
        common_sections = sections(membership)
        run_id = digest({"statistics": common_sections, "peers": list(membership.peers.names)})
        local = Local(
            name=membership.me.name,
            agreement=Agreement(
                run_id=run_id, sections=tuple(sorted(common_sections.items())), space_id="statistics"
            ),
            codec=Float32(),
            learned_size=1,
            settings=settings.net.model_copy(update={"queue_messages_max": QUEUE_MAX}),
            accounting=Accounting(),
            instance=uuid.uuid4().hex,
            insecure=False,
            on_message=self._on_message,
        )
        self._table = NeighbourTable(
            local,
            peers=membership.peers,
            contacts=membership.contacts,
            identity=membership.identity,
            rng=seeding.generator(settings.seed, "dial", peer=membership.me.name),
            on_peer=self._on_peer,
            on_rejected=lambda peer, reason, sentence: None,
            listen=options.listen,
        )
        self._exchange = Exchange(
            me=membership.me.name,
            peers=membership.peers.names,
            neighbours=membership.contacts,
            have=Have.of(own, count_min=count_min).packed(),
            share=lambda told: own_sums(common(told), own),
            result=lambda told, numbers: statistics(common(told), numbers),
            run_id=run_id,
            began_us=time.time_ns() // 1000,
            send=self._table.send,
            sign=partial(signing.sign, membership.identity),
            verify=lambda peer, statement, signature: signing.verify(
                self._table.certificate_of(peer), statement, signature
            ),
        )

    async def run(self) -> bytes | None:
        """Return what all have agreed on; None: interrupted.

        Raises:
            DataError: the tables do not fit together. TooFewPeers: somebody was missing for too long.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    watch_signals,
                    leave=lambda name: self._leaving.cancel(),
                    leave_at_once=nursery.cancel_scope.cancel,
                    read_again=lambda: logger.info("SIGHUP: the peers file is not read again here"),
                )
            )
            await nursery.start(self._table.run)
            with self._leaving:
                await self._until_over()
                await self._linger()
            await self._table.close("finished" if self._exchange.over else "leaving")
            nursery.cancel_scope.cancel()
        if self._exchange.failure is not None:
            raise self._exchange.failure
        return self._exchange.outcome

    async def _until_over(self) -> None:
        began_s = trio.current_time()
        waits, until_s = Waits(), began_s + self._wait_s
        while not self._exchange.over:
            what, peers = self._exchange.missing()
            if trio.current_time() >= until_s:
                raise TooFewPeers(self._why(what, peers))
            waits.note(f"statistics, {what}", Waiting(peers, began_s, until_s))
            await self._wait_for_activity(until_s)

    def _why(self, what: str, peers: frozenset[PeerId]) -> str:
        reasons = {entry["name"]: entry.get("error") for entry in self._table.status()}
        told = [f"{peer} ({reasons[peer]})" if reasons.get(peer) else peer for peer in sorted(peers)[:5]]
        more = f" and {len(peers) - 5} more" if len(peers) > 5 else ""
        return (
            f"after {self._wait_s:g} s somebody still has not told {what}: {', '.join(told)}{more}; all peers of the "
            "file take part, so start the command on all, or take a line out of the file on all"
        )

    async def _linger(self) -> None:
        until_s = trio.current_time() + LINGER_S
        while trio.current_time() < until_s and any(
            self._table.is_up(peer) and peer not in self._exchange.content for peer in self._neighbours
        ):
            await self._wait_for_activity(until_s)

    async def _wait_for_activity(self, until_s: float = math.inf) -> None:
        with trio.move_on_at(min(until_s, trio.current_time() + TICK_S)):
            await self._activity.wait()
        self._activity = trio.Event()

    def _on_message(self, sender: PeerId, message: Message) -> None:
        reason = self._exchange.on_message(sender, message)
        if reason is not None:
            logger.info("%s: a message of no use (%s)", sender, reason)
            self._table.note_rejected(sender)
        self._activity.set()

    def _on_peer(self, peer: PeerId, up: bool) -> None:
        self._exchange.on_peer(peer, up)
        self._activity.set()
