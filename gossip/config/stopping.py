"""What `[stop]` may ask for beside rounds, and of which runs: said before anything runs."""

from __future__ import annotations

from collections.abc import Callable

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.protocols.stopping import PEERS_MAX, StopRule, enough
from topologies import Topology


def check_stop(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where peers cannot agree to stop as `[stop]` says; note what may be a mistake."""
    stop, peers = task.stop, topology.peers
    if (stop.early or task.evaluate.keep_best) and not task.data.validates:
        key = "[stop] patience or target" if stop.early else "[evaluate] keep_best"
        task.note(
            f"{key}: what chooses the model is its score on the test samples, so this score flatters it; set [data] "
            "own_validation = 0.1 (or validation_per_class) to choose by samples set aside"
        )
    if not stop.early:
        return
    key = f"{task.where('stop')} {'patience' if stop.patience is not None else 'target'}"
    protocol = task.protocol
    if not protocol.load().agrees_to_stop:
        raise SettingError(
            f"{key} needs rounds that all peers have in common, to stop after the same one, and [protocol] kind = "
            f"'{protocol.kind}' has none that they could agree upon; valid: kind = 'rounds', or only [stop] rounds"
        )
    if not getattr(protocol, "gossip_steps", 1):
        raise SettingError(
            f"{key} is agreed upon with neighbours, and with [protocol] gossip_steps = 0 nobody waits for any; valid: "
            "gossip_steps from 1 on, or only [stop] rounds"
        )
    if peers > PEERS_MAX:
        raise SettingError(
            f"{key}: every peer hears of every other whether it wants to stop, and {peers} peers are too many for "
            f"that; valid: at most {PEERS_MAX}, or only [stop] rounds"
        )
    if stop.liars and stop.liars >= peers > 1:
        raise SettingError(
            f"{task.where('stop')} liars = {stop.liars} of {peers} peers leaves nobody honest; valid: 0 to {peers - 1}"
        )
    if peers > 1 and enough(peers, stop.liars) > peers - stop.liars:
        task.note(
            f"[stop] liars = {stop.liars}: of {peers} peers {enough(peers, stop.liars)} have to want to stop, so that "
            f"{stop.liars} of them that never want to keep all others at it until [stop] rounds; f of them take "
            "3·f + 1 peers"
        )


def stop_rule(
    task: TaskSettings, topology: Topology, *, better: Callable[[float, float], bool]
) -> StopRule | None:
    """Return what peers are to agree upon; None where `[stop]` asks for rounds only."""
    stop = task.stop
    if not stop.early:
        return None
    return StopRule(
        run=task.run_id(),
        better=better,
        patience=stop.patience,
        min_delta=stop.min_delta,
        target=stop.target,
        liars=stop.liars,
        hops=topology.diameter(),
    )
