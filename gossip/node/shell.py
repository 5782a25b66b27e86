"""The trio shell of a peer: it carries events to the protocol, and what the protocol wants into the world."""

from __future__ import annotations

import logging
import math
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import trio

from gossip import seeding
from gossip.config.graphs import build_topology
from gossip.errors import ExitCode, GossipError, QuorumLost, SettingError, TooFewPeers
from gossip.learner import Judged, Trained
from gossip.merging.sanitise import MUTED, Refusal
from gossip.net.neighbours import Agreement, NeighbourTable
from gossip.net.peers_file import load as load_peers
from gossip.node.context import NodeContext
from gossip.node.handles import Deferred
from gossip.node.recorder import Recorder, counts
from gossip.node.setup import Setup
from gossip.node.status import serve_status
from gossip.node.work import LearningThread
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

if TYPE_CHECKING:
    from gossip.telemetry.prometheus import PrometheusMetrics

logger = logging.getLogger("gossip.node")

TICK_S = 0.5
"""How often conditions with a deadline (start, quorum, linger) are looked at when nothing happens."""

METRICS_S = 1.0
"""How fresh exported metrics are; Prometheus asks every 15 s or so."""


class Node:
    """One peer. `run` returns when the rounds are done, on a signal, or raises a `UserError`."""

    context_class: type[NodeContext] = NodeContext

    def __init__(self, setup: Setup) -> None:
        membership, settings = setup.membership, setup.membership.settings
        self._setup = setup
        self._settings = settings
        self.name = membership.me.name
        self.accounting = (
            Accounting.from_dict(setup.checkpoint.counters) if setup.checkpoint else Accounting()
        )
        self.state = "starting"
        self.started_s = time.time()
        self._thread = LearningThread()
        self._recorder = Recorder(setup, self.accounting)
        self._activity = trio.Event()
        self._handling = False
        self._pending: deque[Callable[[], None]] = deque()
        self._finished_peers: set[PeerId] = set()
        self._spoken_to = False
        self._interrupted: str | None = None
        self._living = trio.CancelScope()
        self._leaving = trio.CancelScope(shield=True)
        self._final: Deferred | None = None
        self._finished = False
        self._skipping = False
        self._last_trained: Trained | None = None
        start_round = setup.checkpoint.round if setup.checkpoint else 0
        vector = torch.from_numpy(setup.checkpoint.vector) if setup.checkpoint else setup.learner.initial()
        self._start = Deferred(setup.task.space.learned_size, vector)
        self._protocol = settings.protocol.load().resume(
            settings.protocol,
            rounds=settings.stop.rounds,
            model=self._start,
            state=setup.checkpoint.state if setup.checkpoint else {},
        )
        self._round = start_round
        self._table = NeighbourTable(
            name=self.name,
            peers=membership.peers,
            contacts=membership.contacts,
            identity=None if setup.options.insecure else membership.identity,
            agreement=Agreement(
                run_id=settings.run_id(),
                space_id=setup.task.space.space_id,
                sections=tuple(sorted(settings.agreement().items())),
                classes=setup.task.dataset.classes if setup.learner.declares_classes else None,
            ),
            codec=settings.codec.load()(),
            learned_size=setup.task.space.learned_size,
            settings=settings.net,
            accounting=self.accounting,
            rng=seeding.generator(settings.seed, "dial", peer=self.name),
            unseen=self._unseen,
            declared=setup.learner.classes if setup.learner.declares_classes else None,
            on_declared=self._on_declared,
            on_message=self._on_message,
            on_peer=self._on_peer,
            on_rejected=self._on_rejected,
            instance=uuid.uuid4().hex,
            listen=setup.options.listen,
        )

    # --- the life of the node ---

    async def run(self) -> ExitCode:
        """Learn with the neighbours.

        Raises:
            SettingError: the port is taken. TooFewPeers, QuorumLost: as named.
        """
        async with trio.open_nursery() as nursery:
            self._context = self._make_context(nursery)
            nursery.start_soon(self._watch_signals)
            nursery.start_soon(self._thread.run)
            nursery.start_soon(self._recorder.run)
            await nursery.start(self._table.run)
            await nursery.start(partial(serve_status, self._setup.options.home, self.status))
            if self._setup.options.metrics is not None:
                nursery.start_soon(self._export_metrics, self._serve_metrics(self._setup.options.metrics))
            self._recorder.started(self._round)
            if self._setup.checkpoint is None:
                self._recorder.save(self._start, self._protocol.snapshot())
            try:
                with self._living:
                    await self._live()
            finally:
                self._leaving.deadline = trio.current_time() + self._settings.node.stop_timeout_s
                with self._leaving:
                    await self._leave()
            nursery.cancel_scope.cancel()
        return ExitCode.INTERRUPTED if self._interrupted and not self._finished else ExitCode.DONE

    async def _live(self) -> None:
        await self._wait_for_neighbours()
        self.state = "running"
        self._handle(lambda: self._protocol.on_start(self._context))
        alone_since: float | None = None
        while self._final is None:
            await self._wait_for_activity()
            alone_since = self._check_quorum(alone_since)
        written = await self._recorder.finish(self._final, self._thread)
        self._finished = True
        self.state = "lingering"
        self._recorder.summary("finished", self._round)
        await self._linger()
        if not written:
            raise SettingError(
                f"--home {self._setup.options.home}: the model could not be written there; make room and start "
                "again to have it written"
            )

    async def _wait_for_neighbours(self) -> None:
        """Wait for all contacts, at most `start_timeout_s`; those missing then count as dead until they come."""
        contacts = self._context.contacts
        deadline_s = trio.current_time() + self._settings.node.start_timeout_s
        self.state = "waiting"
        while trio.current_time() < deadline_s:
            up = sum(self._table.is_up(peer) for peer in contacts)
            if up == len(contacts) or (up >= self._settings.node.neighbours_min and self._is_under_way()):
                return
            await self._wait_for_activity(until_s=deadline_s)
        missing = [peer for peer in contacts if not self._table.is_up(peer)]
        if not missing:
            return
        needed = min(self._settings.node.neighbours_min, len(contacts))
        if len(contacts) - len(missing) < needed:
            raise TooFewPeers(
                f"{len(contacts) - len(missing)} of {len(contacts)} neighbours reachable after "
                f"{self._settings.node.start_timeout_s:g} s, at least {needed} needed; missing: "
                f"{self._why_missing(missing)}"
            )
        logger.warning("starting without %s, who count as dead until they come", ", ".join(missing[:20]))

    def _is_under_way(self) -> bool:
        """Whether the others have begun, and do not wait for us: where everybody may talk to us, for all we know."""
        return self._setup.membership.everybody and (self._setup.checkpoint is not None or self._spoken_to)

    def _why_missing(self, missing: list[PeerId]) -> str:
        reasons = {entry["name"]: entry.get("error") for entry in self._table.status()}
        told = [f"{peer} ({reasons.get(peer) or 'no answer'})" for peer in missing[:5]]
        return ", ".join(told) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")

    def _check_quorum(self, alone_since: float | None) -> float | None:
        contacts = self._context.contacts
        needed = min(self._settings.node.neighbours_min, len(contacts))
        alive = sum(self._table.is_up(peer) or peer in self._finished_peers for peer in contacts)
        if alive >= needed:
            return None
        now = trio.current_time()
        if alone_since is not None and now - alone_since > self._settings.node.quorum_timeout_s:
            raise QuorumLost(
                f"{alive} of {len(contacts)} neighbours left for {now - alone_since:.0f} s, at least "
                f"{needed} needed; the state of round {self._round} is saved, start again to resume"
            )
        return now if alone_since is None else alone_since

    async def _linger(self) -> None:
        """Answer slower neighbours until none can need it, at most `linger_s`."""
        deadline_s = trio.current_time() + self._settings.node.linger_s
        while self._protocol.needed() and trio.current_time() < deadline_s:
            await self._wait_for_activity(until_s=deadline_s)

    async def _leave(self) -> None:
        """Save what is done, tell the neighbours, close."""
        finished = self._finished
        if self.state == "running":
            self._handle(lambda: self._protocol.on_leave(self._context))
        self.state = "finished" if finished else "leaving"
        await self._recorder.flush()
        await self._table.close("finished" if finished else "leaving")
        self._recorder.summary("finished" if finished else "interrupted", self._round)

    async def _wait_for_activity(self, until_s: float = float("inf")) -> None:
        with trio.move_on_at(min(until_s, trio.current_time() + TICK_S)):
            await self._activity.wait()
        self._activity = trio.Event()

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            # Held back while the task was loaded, when it would have ended the process.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            async for number in signals:
                if number == signal.SIGHUP:
                    self._read_peers_again()
                elif self._interrupted:
                    logger.warning("second signal: leaving at once")
                    self._leaving.cancel()
                else:
                    self._interrupted = signal.Signals(number).name
                    logger.info("%s: saving and leaving", self._interrupted)
                    self._recorder.event("interrupted", signal=self._interrupted)
                    self._living.cancel()

    def _read_peers_again(self) -> None:
        """SIGHUP: take over a changed peers file; with a mistake in it, go on with the old one."""
        membership, options = self._setup.membership, self._setup.options
        try:
            peers = load_peers(options.peers, insecure=options.insecure)
            me = peers.find(self.name)
            if me is None or me.certificate != membership.me.certificate:
                raise SettingError(f"{options.peers}: our own line ('{self.name}') is gone or has changed")
            topology = build_topology(self._settings, names=peers.names, folder=membership.folder)
        except SettingError as error:
            logger.error("SIGHUP: %s; going on with the old peers", error)
            return
        self._context.replace_peers(peers.names, topology)
        self._table.replace_peers(peers, self._context.contacts)
        logger.info("SIGHUP: %s read again, %d peers", options.peers, len(peers))
        self._recorder.event("peers_read_again", peers=len(peers))

    def _serve_metrics(self, address: str) -> PrometheusMetrics:
        from gossip.telemetry.prometheus import PrometheusMetrics  # costs 50 ms, seldom wanted

        metrics = PrometheusMetrics()
        metrics.serve(address)
        return metrics

    async def _export_metrics(self, metrics: PrometheusMetrics) -> None:
        while True:
            metrics.update(self.status())
            await trio.sleep(METRICS_S)

    # --- events for the protocol ---

    def _handle(self, handler: Callable[[], None]) -> None:
        """Call a handler of the protocol; one that is caused by another one waits until that has returned."""
        self._pending.append(handler)
        if self._handling:
            return
        self._handling = True
        try:
            while self._pending:
                self._pending.popleft()()
        finally:
            self._handling = False
            self._activity.set()

    def _on_declared(self, sender: PeerId, classes: tuple[int, ...]) -> None:
        self._context.declared[sender] = frozenset(classes)

    def _on_message(self, sender: PeerId, message: Message) -> None:
        if isinstance(message, FinishedMessage):
            self._finished_peers.add(sender)
        self._spoken_to = True
        self._handle(lambda: self._protocol.on_message(self._context, sender, message))

    def _on_peer(self, peer: PeerId, up: bool) -> None:
        if up:
            self._finished_peers.discard(peer)
        self._recorder.event("peer_up" if up else "peer_down", other=peer)
        if self.state in ("starting", "waiting"):
            self._activity.set()
        else:
            self._handle(lambda: self._protocol.on_peer(self._context, peer, up))

    def _on_rejected(self, peer: PeerId | None, reason: str, sentence: str) -> None:
        self._recorder.rejected(peer, reason, sentence)

    def _unseen(self, peer: PeerId) -> object | None:
        return MUTED if self._setup.learner.sanitiser.is_muted(peer) else None

    def _on_judged(self, judged: Sequence[Judged]) -> None:
        for round, verdict in judged:
            if isinstance(verdict, Refusal):
                self.accounting.reject(verdict.reason)
                self._recorder.rejected(verdict.sender, verdict.reason)
                if verdict.muted_rounds:
                    logger.warning(
                        "%s is muted for %d rounds: its models are %s",
                        verdict.sender,
                        verdict.muted_rounds,
                        verdict.reason,
                    )
                    self._recorder.event("muted", other=verdict.sender, rounds=verdict.muted_rounds)
            self._recorder.verdicts.note(round, verdict.sender, verdict.weight, verdict.reason)

    def _on_trained(self, ticket: Ticket, model: Deferred, trained: Trained) -> None:
        self._last_trained = trained
        if trained.skipped:
            # Once it has begun it mostly goes on: a line per round for weeks would help nobody.
            logger.log(
                logging.DEBUG if self._skipping else logging.WARNING,
                "%d of %d batches gave gradients that are not finite and were skipped; is the learning rate "
                "too large, or are the data?",
                trained.skipped,
                trained.steps,
            )
        self._skipping = trained.skipped > 0
        self._handle(lambda: self._protocol.on_trained(self._context, ticket, model))

    def _on_timer(self, key: TimerKey) -> None:
        self._handle(lambda: self._protocol.on_timer(self._context, key))

    def _on_finish(self, model: Deferred) -> None:
        self._final = model
        self._activity.set()

    def _on_event(self, event: Event) -> None:
        match event:
            case RoundCompleted():
                self._round = event.round
                self._recorder.round_completed(
                    event, self._last_trained, self._protocol.snapshot(), self._thread
                )
            case MessageRejected():
                self.accounting.reject(event.reason)
                self._recorder.rejected(event.sender, event.reason)
            case ModelSaved():
                self._round = event.round
                self._recorder.save(event.model, self._protocol.snapshot())
            case ModelAdopted():
                logger.info("far behind: took over the model of %s, of round %d", event.sender, event.round)
                self._recorder.adopted(event)

    # --- what others may know ---

    def status(self) -> Mapping[str, Any]:
        """Return what `gossip-node status` prints."""
        last = self._recorder.last_evaluation
        return {
            "name": self.name,
            "state": self.state,
            "round": self._round,
            "rounds": self._settings.stop.rounds,
            "algorithm": self._settings.algorithm,
            "topology": None if self._setup.membership.everybody else self._settings.topology.kind,
            "accuracy": None if last is None else last.accuracy,
            "test_loss": None if last is None or not math.isfinite(last.loss) else last.loss,
            "waiting_for": sorted(getattr(self._protocol, "waiting_for", ())),
            "protocol": dict(self._protocol.status()),
            "neighbours": list(self._table.status()),
            "uptime_s": time.time() - self.started_s,
            "run_id": self._settings.run_id(),
            "space_id": self._setup.task.space.space_id,
            "insecure": self._setup.options.insecure,
            **counts(self.accounting),
        }

    def _make_context(self, nursery: trio.Nursery) -> NodeContext:
        membership = self._setup.membership
        return self.context_class(
            peer=self.name,
            peers=membership.peers.names,
            topology=membership.topology,
            everybody=membership.everybody,
            seed=self._settings.seed,
            learned_size=self._setup.task.space.learned_size,
            learner=self._setup.learner,
            thread=self._thread,
            table=self._table,
            nursery=nursery,
            on_timer=self._on_timer,
            on_trained=self._on_trained,
            on_event=self._on_event,
            on_finish=self._on_finish,
            on_judged=self._on_judged,
        )


def sole_error(group: BaseException) -> GossipError | None:
    """Return the one error of ours inside nested exception groups, or None where there is another one."""
    if isinstance(group, BaseExceptionGroup):
        found = [sole_error(error) for error in group.exceptions]
        return found[0] if all(found) else None
    return group if isinstance(group, GossipError) else None


def run_node(setup: Setup, make: Callable[[Setup], Node] = Node) -> ExitCode:
    """Run a node to its end; `make` makes it.

    Raises:
        UserError: with one sentence and the exit code.
    """

    async def main() -> ExitCode:
        return await make(setup).run()

    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if error is None:
            raise
        raise error from None
