"""With what a local update, or a network, does not go together in other sections: said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.learning.updates.settings import FedSpeedSettings, SpsaSettings
from gossip.merging.robust.settings import UbarSettings
from gossip.merging.settings import BristleSettings, VarianceCorrectedSettings
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.push.settings import WALKS, PushSettings
from gossip.protocols.settings import RoundsSettings
from topologies import Topology

STANDARDISED = "-ws"
"""How the names of networks with standardised weights end."""


def check_update(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where what FedSpeed hands on would be taken for a model; note where duals are rare."""
    if not isinstance(task.local.optimizer, FedSpeedSettings):
        return
    where = f"{task.where('local')} optimizer.kind = 'fedspeed'"
    protocol = task.protocol
    if isinstance(task.merge, (BristleSettings, UbarSettings)):
        raise SettingError(
            f"{where} sends what only an average makes a model of, and [merge] kind = '{task.merge.kind}' judges each "
            "by own samples; valid: a rule that does not, or another optimizer"
        )
    if isinstance(protocol, RoundsSettings) and protocol.order == "combine-then-adapt":
        raise SettingError(
            f"{where} needs its duals averaged in the round that they are handed on in, and [protocol] order = "
            "'combine-then-adapt' keeps each peer's own; valid: order = 'adapt-then-combine'"
        )
    if isinstance(protocol, RoundsSettings) and not protocol.gossip_steps:
        raise SettingError(f"{where} needs others to average with, and [protocol] gossip_steps = 0 has none")
    if isinstance(protocol, PushSettings) and protocol.variant in WALKS:
        raise SettingError(
            f"{where} keeps a dual of the peer's own model, and with [protocol] variant = '{protocol.variant}' the "
            "next update is of another one; valid: variant = 'merge-update'"
        )
    if isinstance(protocol, ModestSettings) and protocol.sample_size < topology.peers:
        task.note(
            f"[local] optimizer.kind = 'fedspeed': a peer that did not train in the round before begins its dual anew, "
            f"and with [protocol] sample_size = {protocol.sample_size} of {topology.peers} peers that is most of them"
        )


def check_slopes(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where there are no few directions along which slopes could be told."""
    if isinstance(task.local.optimizer, SpsaSettings) and (
        task.model.adapter is None or task.model.adapter.kind != "seed-space"
    ):
        raise SettingError(
            f"{task.where('local')} optimizer.kind = 'spsa' tells slopes along the few directions of [model.adapter] "
            "kind = 'seed-space', and there is none; valid: that adapter, or another optimizer"
        )


def check_network(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where variances are corrected of weights whose scale the network takes away."""
    if task.model.name.endswith(STANDARDISED) and isinstance(task.merge, VarianceCorrectedSettings):
        raise SettingError(
            f"{task.where('merge')} kind = 'variance-corrected' scales weights, and [model] name = '{task.model.name}' "
            "standardises them, so that only the steps would change; valid: kind = 'average'"
        )
