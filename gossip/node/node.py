"""The trio shell of a peer: it carries events to the protocol, and what the protocol wants into the world."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import trio

from gossip import seeding
from gossip.errors import ExitCode, SettingError
from gossip.learner import RecordedVerdict, Trained
from gossip.merging.sanitise import MUTED, Refusal
from gossip.net.local import Local
from gossip.net.neighbours import NeighbourTable
from gossip.node.context import NodeContext, Upcalls
from gossip.node.handlers import Handlers
from gossip.node.handles import Deferred
from gossip.node.learning_thread import LearningThread
from gossip.node.lingering import Lingering
from gossip.node.outgoing_models import OutgoingModels
from gossip.node.phases import Phases
from gossip.node.quorum import Quorum
from gossip.node.recorder import Recorder
from gossip.node.report import status_of
from gossip.node.services import Page, keep_up, open_web, publish, show_on_terminal
from gossip.node.setup import Membership, Setup
from gossip.node.signals import PeersAgain, watch_signals
from gossip.node.status import serve_status
from gossip.node.waits import Waits
from gossip.protocols.base import (
    Event,
    FinishedMessage,
    Message,
    MessageRejected,
    ModelAdopted,
    ModelSaved,
    PeerId,
    RoundCompleted,
    Ticket,
    TimerKey,
)
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.containment import Containment, tell
from gossip.telemetry.offences import OffenceLog

if TYPE_CHECKING:
    from gossip.telemetry.web import Web
    from gossip.wire.codecs.base import Codec

logger = logging.getLogger("gossip.node")

TICK_S = 0.5
"""How often conditions with a deadline (start, quorum, linger) are looked at when nothing happens."""


class Node:
    """One peer. `run` returns when the rounds are done, on a signal, or raises a `UserError`."""

    context_class: type[NodeContext] = NodeContext

    def __init__(self, setup: Setup) -> None:
        membership, settings = setup.membership, setup.membership.settings
        self.setup = setup
        self._settings = settings
        self.name = membership.me.name
        self.accounting = (
            Accounting.from_dict(setup.checkpoint.counters) if setup.checkpoint else Accounting()
        )
        self.state = "starting"
        self.started_s = time.time()
        self._thread = LearningThread()
        self.phases = Phases(self._thread)
        self.contained = Containment()
        self.recorder = Recorder(setup, self.accounting, self.contained, self._thread)
        self._offences = OffenceLog(logger, time.monotonic)
        self._activity = trio.Event()
        self._handle = Handlers(lambda: self._activity.set())
        self._spoken_to = False
        self._interrupted: str | None = None
        self._living = trio.CancelScope()
        self._leaving = trio.CancelScope(shield=True)
        self._final: Deferred | None = None
        self.web: Web | None = None
        self.page: Page | None = None
        self._finished = False
        self._last_trained: Trained | None = None
        vector = (
            torch.from_numpy(setup.checkpoint.take_vector()) if setup.checkpoint else setup.learner.initial()
        )
        self.recorder.alarm.begin(vector)
        # The network's own copy of its first values is of no use any more.
        setup.task.forget_initial()
        self._start = Deferred(setup.task.space.learned_size, vector)
        self.protocol = setup.make_protocol(self._start)
        self.recorder.attend(self.protocol, self._on_score)
        self.rounds_done = setup.checkpoint.round if setup.checkpoint else 0
        """What the model in memory contains; on the disk it may be less, see `Saver.round`."""
        self.rounds_before = self.rounds_done
        """Those of earlier processes."""
        self._codec: Codec = settings.codec.load()(settings.codec)
        self.table = self._make_table()
        self.quorum = Quorum(settings.node, self.table, lambda: self._context.contacts)
        self._lingering = Lingering(settings.node, is_up=self.table.is_up, finished=self.quorum.finished)
        self._waits = Waits()

    # --- the life of the node ---

    async def run(self) -> ExitCode:
        """Learn with the neighbours.

        Raises:
            SettingError: the port is taken. TooFewPeers, QuorumLost: as named.
        """
        async with trio.open_nursery() as nursery:
            self._context = self._make_context(nursery)
            peers_again = PeersAgain(self.setup.membership, self.setup.options, self._take_peers)
            nursery.start_soon(peers_again.run)
            nursery.start_soon(
                partial(
                    watch_signals,
                    leave=self._interrupt,
                    leave_at_once=self._leaving.cancel,
                    read_again=peers_again.ask,
                )
            )
            nursery.start_soon(self._thread.run)
            nursery.start_soon(self.recorder.run)
            await nursery.start(self.table.run)
            nursery.start_soon(
                keep_up,
                "status not answered",
                partial(serve_status, self.setup.options.home, self.status, self.contained),
                self.contained,
            )
            if not self.setup.options.as_json:
                nursery.start_soon(show_on_terminal, self.status, self.contained)
            if self.setup.options.metrics is not None:
                self.web = open_web(self.setup.options.metrics)
                nursery.start_soon(publish, self.web, self.status, self.contained)
            if self.setup.options.page is not None:
                self.page = Page(self.setup.options.page, self.setup, self.status, self.contained)
                nursery.start_soon(self.page.run)
            self.recorder.started(self.rounds_done)
            if self.setup.checkpoint is None:
                self.recorder.save(self._start, self.protocol.snapshot())
            # From here on the protocol has it.
            del self._start
            try:
                with self._living:
                    await self._live()
            finally:
                self._leaving.deadline = trio.current_time() + self._settings.node.stop_timeout_s
                with self._leaving:
                    await self._leave()
                    if self.page is not None:
                        await self.page.close()
                if self.web is not None:
                    self.web.close()
            nursery.cancel_scope.cancel()
        return ExitCode.INTERRUPTED if self._interrupted and not self.recorder.finished else ExitCode.DONE

    async def _live(self) -> None:
        await self._wait_for_neighbours()
        self.state = "running"
        self._handle(lambda: self.protocol.on_start(self._context))
        while self._final is None:
            await self._wait_for_activity()
            self.quorum.check(self.recorder.saver.round)
            self._waits.note("in the middle of a round", self.protocol.present_wait())
        self._finished = True
        self.state = "lingering" if await self.recorder.finish(self._final, self._thread) else "unsaved"
        self._context.tell_finished()
        self.recorder.summary(self._ending())
        await self._linger()
        if not await self.recorder.finish(self._final, self._thread):
            raise SettingError(
                f"--home {self.setup.options.home}: the model could not be written there; make room and start "
                "again to have it written"
            )

    def _ending(self) -> str:
        """Return how the run has ended, as far as the disk knows."""
        if self._finished:
            return "finished" if self.recorder.finished else "unsaved"
        return "interrupted"

    async def _wait_for_neighbours(self) -> None:
        """Wait for all contacts, at most `start_timeout_s`; those missing then count as dead until they come."""
        contacts, began_s = self._context.contacts, trio.current_time()
        deadline_s = began_s + self._settings.node.start_timeout_s
        self.state = "waiting"
        while trio.current_time() < deadline_s:
            up = self.quorum.up
            if up == len(contacts) or (up >= self._settings.node.neighbours_min and self._is_under_way()):
                return
            self._waits.note("not started yet", self.quorum.start(since_s=began_s, until_s=deadline_s))
            await self._wait_for_activity(until_s=deadline_s)
        missing = self.quorum.missing_at_start()
        if missing:
            tell(
                logging.WARNING,
                f"starting without {', '.join(missing[:20])}, who count as dead until they come",
            )

    def _is_under_way(self) -> bool:
        """Whether the others have begun, and do not wait for us: where everybody may talk to us, for all we know."""
        return self.setup.membership.everybody and (self.setup.checkpoint is not None or self._spoken_to)

    async def _linger(self) -> None:
        """Answer slower neighbours until none can need it, see `Lingering`."""
        self._lingering.begin()
        while self.protocol.needed() and self._lingering.awaited(self._context.contacts):
            self._waits.note("done, slower peers may need us", self._lingering.told(self._context.contacts))
            await self._wait_for_activity()

    async def _leave(self) -> None:
        """Save what is done, tell the neighbours, close."""
        finished = self._finished
        if self.state == "running" and self._handle.mistake is None:
            self._handle(lambda: self.protocol.on_leave(self._context))
        self.state = self._ending() if finished else "leaving"
        async with trio.open_nursery() as nursery:
            # Beside the goodbye: a disk that hangs must not keep the neighbours waiting for us.
            nursery.start_soon(self.recorder.saver.close)
            await self.table.close("finished" if finished else "leaving")
        self.recorder.summary(self._ending())
        await self.recorder.flush()
        self._offences.tell(all=True)

    async def _wait_for_activity(self, until_s: float = float("inf")) -> None:
        with trio.move_on_at(min(until_s, trio.current_time() + TICK_S)):
            await self._activity.wait()
        self._handle.tell()
        self._activity = trio.Event()

    def _interrupt(self, name: str) -> None:
        self._interrupted = name
        tell(logging.INFO, f"{name}: saving and leaving")
        self.recorder.event("interrupted", signal=name)
        self._living.cancel()

    def _take_peers(self, found: Membership, before: Membership) -> None:
        """SIGHUP: take over a changed peers file, all of it or, where that raises, nothing."""
        self._context.replace_peers(found.peers.names, found.topology)
        try:
            self.table.replace_peers(found.peers, found.contacts)
        except Exception:
            self._context.replace_peers(before.peers.names, before.topology)
            raise
        tell(logging.INFO, f"SIGHUP: {self.setup.options.peers} read again, {len(found.peers)} peers")
        self.recorder.event("peers_read_again", peers=len(found.peers))

    # --- events for the protocol ---

    def _on_declared(self, sender: PeerId, classes: tuple[int, ...]) -> None:
        self._context.declared[sender] = frozenset(classes)

    def _on_message(self, sender: PeerId, message: Message) -> None:
        if isinstance(message, FinishedMessage):
            self.quorum.finished.add(sender)
        self._spoken_to = True
        self._handle.heard(lambda: self.protocol.on_message(self._context, sender, message))

    def _on_peer(self, peer: PeerId, up: bool) -> None:
        if up:
            self.quorum.finished.discard(peer)
        else:
            self._lingering.went(peer)
        self.recorder.event("peer_up" if up else "peer_down", other=peer)
        if self.state in ("starting", "waiting"):
            self._activity.set()
        else:
            if up:
                self._context.came(peer)
            self._handle.heard(lambda: self.protocol.on_peer(self._context, peer, up))

    def _on_lost(self, peer: PeerId) -> None:
        self._context.lost(peer)

    def _on_rejected(self, peer: PeerId | None, reason: str, sentence: str) -> None:
        self.recorder.rejected(peer, reason, sentence)

    def _unseen(self, peer: PeerId) -> object | None:
        return MUTED if self.setup.learner.sanitiser.is_muted(peer) else None

    def _on_judged(self, judged: Sequence[RecordedVerdict]) -> None:
        for round, verdict in judged:
            if isinstance(verdict, Refusal):
                self.accounting.reject(verdict.reason)
                self.table.note_rejected(verdict.sender)
                self.recorder.rejected(verdict.sender, verdict.reason)
                if verdict.muted_rounds:
                    self._offences.note(
                        logging.WARNING,
                        verdict.sender,
                        "muted",
                        f"{verdict.sender} is muted for {verdict.muted_rounds} rounds: "
                        f"its models are {verdict.reason}",
                    )
                    self.recorder.event("muted", other=verdict.sender, rounds=verdict.muted_rounds)
            self.recorder.judged(round, verdict.sender, verdict.weight, verdict.reason)

    def _on_trained(self, ticket: Ticket, model: Deferred, trained: Trained) -> None:
        self._last_trained = trained
        self.phases.trained()
        self.recorder.alarm.trained(trained)
        self._handle(lambda: self.protocol.on_trained(self._context, ticket, model))

    def _on_score(self, round: int, score: float | None) -> None:
        self._handle(lambda: self.protocol.on_score(self._context, round, score))

    def _on_timer(self, key: TimerKey) -> None:
        self._handle(lambda: self.protocol.on_timer(self._context, key))

    def _on_finish(self, model: Deferred) -> None:
        self._final = model
        self._activity.set()

    def _on_event(self, event: Event) -> None:
        match event:
            case RoundCompleted():
                self.rounds_done = event.round
                self.recorder.round_completed(
                    event, self._last_trained, self.protocol.snapshot(), self._thread, self.phases
                )
            case MessageRejected():
                self.accounting.reject(event.reason)
                self.table.note_rejected(event.sender)
                self.recorder.rejected(event.sender, event.reason)
            case ModelSaved():
                self.rounds_done = event.round
                self.recorder.save(event.model, self.protocol.snapshot())
            case ModelAdopted():
                sentence = f"far behind: caught up with {event.sender}, at round {event.round}"
                self._offences.note(logging.INFO, event.sender, "adopted", sentence)
                self.recorder.adopted(event)

    # --- what others may know ---

    def status(self) -> Mapping[str, Any]:
        """Return what `gossip-node status` prints, see `status_of`."""
        return status_of(self)

    # --- its parts ---

    def _make_table(self) -> NeighbourTable:
        setup, membership, learner = self.setup, self.setup.membership, self.setup.learner
        local = Local(
            name=self.name,
            agreement=setup.agreement(),
            codec=self._codec,
            learned_size=setup.task.space.learned_size,
            settings=self._settings.net,
            accounting=self.accounting,
            instance=uuid.uuid4().hex,
            insecure=setup.options.insecure,
            on_message=self._on_message,
            unseen=self._unseen,
            declared=learner.classes if learner.declares_classes else None,
            on_declared=self._on_declared,
            on_lost=self._on_lost,
        )
        return NeighbourTable(
            local,
            peers=membership.peers,
            contacts=membership.contacts,
            identity=None if local.insecure else membership.identity,
            rng=seeding.generator(self._settings.seed, "dial", peer=self.name),
            on_peer=self._on_peer,
            on_rejected=self._on_rejected,
            listen=setup.options.listen,
        )

    def _make_context(self, nursery: trio.Nursery) -> NodeContext:
        membership, learner = self.setup.membership, self.setup.learner
        return self.context_class(
            peer=self.name,
            peers=membership.peers.names,
            topology=membership.topology,
            everybody=membership.everybody,
            learner=learner,
            thread=self._thread,
            outgoing=OutgoingModels(codec=self._codec, learner=learner, thread=self._thread),
            table=self.table,
            identity=membership.identity,
            nursery=nursery,
            upcalls=Upcalls(
                on_timer=self._on_timer,
                on_trained=self._on_trained,
                on_event=self._on_event,
                on_finish=self._on_finish,
                on_judged=self._on_judged,
            ),
        )
