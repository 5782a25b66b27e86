"""From options to everything a node needs. Cheap checks come first; torch is imported after them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gossip import plugins
from gossip.config import TaskSettings, load_task
from gossip.config.cautions import cautions_of_lone_peer
from gossip.config.channels import prepare_table, protocol_of
from gossip.config.final import prepare_end
from gossip.config.graphs import build_topology
from gossip.config.stopping import stop_rule
from gossip.errors import SettingError
from gossip.net.identity import IDENTITY_FILE, Identity
from gossip.net.peers_file import PeerEntry, PeersFile
from gossip.net.peers_file import load as load_peers
from gossip.node.options import NodeOptions
from gossip.protocols.stopping import ROUNDS
from gossip.telemetry.loggers.base import Logger, open_logger
from gossip.wire.agreement import Agreement
from gossip.wire.messages import register_messages
from topologies import Topology

if TYPE_CHECKING:
    from gossip.channels.samples import PrototypeSamples
    from gossip.learner import Learner
    from gossip.learning.task import Task
    from gossip.protocols.base import Model, Protocol
    from gossip.storage.checkpoints import Belongs, Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who we are among whom: the part of the setup that needs no torch."""

    settings: TaskSettings
    folder: Path
    """Relative paths of the task are relative to this."""
    peers: PeersFile
    me: PeerEntry
    identity: Identity | None
    topology: Topology

    @property
    def position(self) -> int:
        """This peer's place among the sorted names."""
        return self.peers.names.index(self.me.name)

    @property
    def everybody(self) -> bool:
        """Whether the protocol talks to all peers and not to a graph's neighbours."""
        return bool(self.settings.protocol.load().everybody)

    @property
    def contacts(self) -> tuple[str, ...]:
        """The peers that may ever be neighbours."""
        if self.everybody:
            return tuple(name for name in self.peers.names if name != self.me.name)
        return tuple(self.peers.names[i] for i in self.topology.contacts(self.position))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a node starts from."""

    options: NodeOptions
    membership: Membership
    task: Task
    learner: Learner
    logger: Logger
    belongs: Belongs
    checkpoint: Checkpoint | None
    samples: PrototypeSamples | None = None
    """What `[channel]` needs to know of samples; None: there is none."""

    def agreement(self) -> Agreement:
        """Return what a neighbour must have in common with us."""
        settings = self.membership.settings
        return Agreement(
            run_id=settings.run_id(),
            space_id=self.task.space.space_id,
            sections=tuple(sorted(settings.agreement().items())),
            classes=self.task.dataset.classes if self.learner.declares_classes else None,
        )

    def make_protocol(self, model: Model) -> Protocol:
        """Return the protocol, ready to go on from `model`; its messages can be read from then on."""
        settings, checkpoint = self.membership.settings, self.checkpoint
        make = protocol_of(settings)
        register_messages(make)
        state = checkpoint.state_after(time.time()) if checkpoint else {}
        made = make.resume(settings.protocol, rounds=settings.stop.rounds, model=model, state=state)
        prepare_end(made, settings, self.membership.topology)
        rule = stop_rule(settings, self.membership.topology, better=self.task.objective.score.better)
        if rule is not None:
            made.stop_early(rule, state)
        if self.samples is not None:
            own = self.samples.own(self.learner.shard)
            prepare_table(made, settings, self.samples.shape, lambda peer: own, state)
        return made

    @property
    def stopped(self) -> str | None:
        """Why the run has ended with the checkpoint's round already, see `Protocol.why_stopped`; None: it goes on."""
        settings, checkpoint = self.membership.settings, self.checkpoint
        if checkpoint is None:
            return None
        if checkpoint.round >= settings.stop.rounds:
            return ROUNDS
        state = checkpoint.state
        agreed = settings.stop.early and state.get("stop_run") == settings.run_id() and "stop_last" in state
        return str(state["stop_decided"]) if agreed and checkpoint.round >= int(state["stop_last"]) else None


def find_membership(options: NodeOptions) -> Membership:
    """Read task, identity and peers file, and find ourselves.

    Raises:
        SettingError: with one sentence.
    """
    settings = load_task(
        options.task,
        arguments=options.arguments,
        overrides=options.overrides,
        agreeing=options.agreeing,
    )
    if settings.protocol.load().scenarios_only:
        raise SettingError(
            f"[protocol] kind = '{settings.protocol.kind}' needs a central peer; it is a baseline for gossip-scenario "
            "in the virtual engine, and no node runs it"
        )
    if settings.stop.early and options.insecure:
        raise SettingError(
            f"{settings.where('stop')} patience and target: what peers want is signed with their keys, and with "
            "--insecure there are none; leave --insecure out, or set [stop] rounds only"
        )
    if not settings.channel.nothing and options.insecure:
        raise SettingError(
            f"{settings.where('channel')} kind = '{settings.channel.kind}': what peers say of their samples is signed "
            "with their keys, and with --insecure there are none; leave --insecure out, or take no [channel]"
        )
    folder = options.task.resolve().parent if options.task else Path.cwd()
    peers = load_peers(options.peers, insecure=options.insecure)
    identity = _identity(options)
    me = _own_entry(options, peers, identity)
    topology = build_topology(settings, names=peers.names, folder=folder)
    if len(peers) == 1:
        for caution in cautions_of_lone_peer(
            settings.protocol, settings.final, path=options.peers, name=me.name
        ):
            settings.note(caution)
    return Membership(
        settings=settings, folder=folder, peers=peers, me=me, identity=identity, topology=topology
    )


def load_learning(options: NodeOptions, membership: Membership, *, touch: bool = True) -> Setup:
    """Load data and model, and the checkpoint to resume from. Imports torch.

    Args:
        options: of the command line.
        membership: who we are.
        touch: with `--fresh`, put an earlier run aside; False: leave the home as it is.

    Raises:
        DataError, SettingError, CheckpointError: with one sentence.
    """
    import torch

    from gossip.node.ledger import open_budget
    from gossip.storage.checkpoints import Belongs

    settings = membership.settings
    if settings.node.threads is not None:
        torch.set_num_threads(settings.node.threads)
    learner = _learner(membership)
    task = learner.task
    belongs = Belongs(peer=membership.me.name, space_id=task.space.space_id, seed=settings.seed)
    checkpoint = _newest_checkpoint(options, membership, belongs) if touch or not options.fresh else None
    shard = len(learner.shard)
    learner.budget = open_budget(options.home, task, shard, checkpoint, touch=touch)
    if checkpoint is not None:
        rows = checkpoint.take_rows()
        learner.state.restore(0, {name: torch.from_numpy(row) for name, row in rows.items()})
    return Setup(
        options=options,
        membership=membership,
        task=task,
        learner=learner,
        logger=open_logger(settings.logger, options.home),
        belongs=belongs,
        checkpoint=checkpoint,
        samples=_samples(membership, task),
    )


def _samples(membership: Membership, task: Task) -> PrototypeSamples | None:
    from gossip.channels.samples import samples_of

    return samples_of(membership.settings, task, peers=len(membership.peers))


def _learner(membership: Membership) -> Learner:
    """Return this peer's learning, with everything checked that can be before a neighbour is there."""
    from gossip.learner import Learner, check_parts
    from gossip.learning import devices
    from gossip.learning.task import Task
    from gossip.probing import probe
    from gossip.wire.documents import CLASSES_MAX

    settings, peers = membership.settings, len(membership.peers)
    device = devices.find(settings.node.device, where=f"{settings.where('node')} device")
    task = Task(
        data=settings.data,
        model=settings.model,
        local=settings.local,
        seed=settings.seed,
        folder=membership.folder,
        rounds=settings.stop.rounds,
        objective=settings.objective,
        outer=settings.outer,
        privacy=settings.privacy,
    )
    task.check()
    check_parts(task, settings.protocol.load().parts(settings.protocol), settings.merge.load())
    probe(task, merge=settings.merge, outgoing=settings.outgoing, codec=settings.codec, peers=peers)
    learner = Learner(
        task,
        peer=membership.me.name,
        position=membership.position,
        peers=peers,
        merge=settings.merge.load()(settings.merge),
        sanitise=settings.sanitise,
        outgoing=settings.outgoing.load()(settings.outgoing),
        device=device,
    )
    if learner.declares_classes and task.dataset.classes > CLASSES_MAX:
        raise SettingError(
            f"[merge] kind = '{settings.merge.kind}' has every model say which of the {task.dataset.classes} classes "
            f"its sender knows; at most {CLASSES_MAX} can be said"
        )
    return learner


def _newest_checkpoint(options: NodeOptions, membership: Membership, belongs: Belongs) -> Checkpoint | None:
    """Return what the home holds of this run; with `--fresh`, put it aside before."""
    from gossip.storage.checkpoints import CheckpointStore
    from gossip.storage.run_record import put_aside

    if options.fresh:
        try:
            put_aside(options.home)
        except OSError as error:
            raise SettingError(
                f"--home {options.home}: --fresh cannot move the earlier run aside: {error.strerror}"
            ) from None
    kind = membership.settings.protocol.kind
    return CheckpointStore(options.home).load_newest(belongs, protocol=plugins.short_name(kind))


def _identity(options: NodeOptions) -> Identity | None:
    if options.insecure and not (options.home / IDENTITY_FILE).exists():
        return None
    return Identity.load(options.home)


def _own_entry(options: NodeOptions, peers: PeersFile, identity: Identity | None) -> PeerEntry:
    if not options.insecure:
        assert identity is not None
        me = peers.find_certificate(identity.certificate_der)
        if me is None:
            raise SettingError(
                f"{options.peers}: no line has the certificate of this node's identity "
                f"('{identity.name}' in {options.home}); add the line that 'gossip-node init' printed"
            )
        if options.name is not None and options.name != me.name:
            raise SettingError(f"--name {options.name}: the identity in {options.home} is '{me.name}'")
        return me
    name = options.name or (identity.name if identity else None)
    if name is not None:
        found = peers.find(name)
        if found is None:
            raise SettingError(
                f"{options.peers}: no line is called '{name}'; names there: {', '.join(peers.names)[:200]}"
            )
        return found
    matches = [entry for entry in peers if entry.address == options.listen]
    if len(matches) != 1:
        raise SettingError(
            "--insecure without an identity needs --name, to say which line of the file we are"
        )
    return matches[0]
