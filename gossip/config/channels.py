"""What `[channel]` goes together with, and the protocol that carries it: said before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.protocols.base import PeerId, Protocol
from gossip.protocols.rounds.carrying import CarryingRounds
from gossip.protocols.tables import Own, Shape, Table
from topologies import Topology


def check_channel(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where tables cannot travel, or would say what another section is to keep in."""
    if task.channel.nothing:
        return
    key = f"{task.where('channel')} kind = '{task.channel.kind}'"
    if task.protocol.kind != "rounds":
        raise SettingError(
            f"{key} is told to the neighbours at the end of rounds, and [protocol] kind = '{task.protocol.kind}' has "
            "none; valid: kind = 'rounds', or no [channel]"
        )
    if not task.privacy.nothing:
        raise SettingError(
            f"{key} sends sums of samples, which the ledger of [privacy] does not count; valid: no [channel], or no "
            "[privacy]"
        )
    if task.data.standardise == "own":
        raise SettingError(
            f"{key} adds up what samples are to all peers' networks, and with [data] standardise = 'own' that is "
            "something else on each of them; valid: standardise = 'none' or 'given'"
        )
    if task.outgoing.kind != "none":
        task.note(
            f"[outgoing] kind = '{task.outgoing.kind}' is for models; the sums of [channel] travel as they are"
        )
    if task.model.extractor is None:
        task.note(
            "[channel] kind = 'prototypes' without a [model] extractor: what travels are sums of five or more samples "
            "themselves, class by class"
        )


def protocol_of(task: TaskSettings) -> type[Protocol]:
    """Return the class of `[protocol]` which carries what `[channel]` asks for."""
    if not task.channel.nothing:
        return CarryingRounds
    made: type[Protocol] = task.protocol.load()
    return made


def liars_told(task: TaskSettings) -> bool:
    """Return whether the merge rule is told that some peers may lie."""
    return bool(getattr(task.merge, "f", None))


def prepare_table(
    made: Protocol,
    task: TaskSettings,
    shape: Shape,
    own: Callable[[PeerId], Own],
    state: Mapping[str, int | float | str],
) -> None:
    """Give a protocol that is about to begin its table.

    Args:
        made: what `protocol_of` returned, made.
        task: the settings.
        shape: of the run's tables.
        own: returns what a peer has samples of.
        state: of the checkpoint, empty for a fresh start.
    """
    assert isinstance(made, CarryingRounds)
    made.carry(Table(shape, own, state), every=task.channel.every)
