"""Whether all parts of a model get a turn, where rounds send it in parts: said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.protocols.settings import RoundsSettings
from topologies import Topology


def check_turns(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where the run ends before every part was sent once."""
    rounds = task.protocol
    if not isinstance(rounds, RoundsSettings) or rounds.parts == 1:
        return
    steps = rounds.gossip_steps * task.stop.rounds
    if rounds.parts > steps:
        raise SettingError(
            f"{task.where('protocol')} parts = {rounds.parts}: one part is sent in a gossip step, and "
            f"{task.stop.rounds} rounds of gossip_steps = {rounds.gossip_steps} have {steps}, so some would never be "
            f"sent; valid: {'1' if steps < 2 else f'1 to {steps}'}"
        )
