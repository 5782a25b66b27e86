"""Whether models come as fast as receivers want them where `[net] upload_mbps_max` slows them: told at the start."""

from __future__ import annotations

import math

from gossip.config.task import TaskSettings
from gossip.net.settings import bytes_per_second
from topologies import Topology


def check_upload(task: TaskSettings, topology: Topology) -> None:
    """Note from which length on models would be too slow for receivers that have the same `[net]`.

    k models at one time share the rate r. One of n bytes takes n·k / r seconds, and its receiver waits for
    heartbeat_timeout_s + n / model_bytes_per_s_min.
    """
    net = task.net
    if net.upload_mbps_max is None:
        return
    at_once = _models_at_once(task, topology)
    per_model = bytes_per_second(net.upload_mbps_max) / at_once
    if per_model >= net.model_bytes_per_s_min:
        return
    longest = net.heartbeat_timeout_s / (1 / per_model - 1 / net.model_bytes_per_s_min)
    task.note(
        f"[net] upload_mbps_max = {net.upload_mbps_max:g}: {at_once} model{'s' * (at_once > 1)} at one time "
        f"get{'s' * (at_once == 1)} {per_model / 1000:.3g} kB/s each, and who receives one of more than "
        f"{longest / 1e6:.3g} MB gives it up as too slow; set model_bytes_per_s_min = {math.floor(per_model / 2) or 1} "
        "at all peers, or send to fewer"
    )


def _models_at_once(task: TaskSettings, topology: Topology) -> int:
    most = 1 if task.protocol.load().everybody else max(len(topology.row(i)) for i in range(topology.peers))
    usual = task.protocol.load().usual_messages(task.protocol, neighbours=most, peers=topology.peers)
    sent = math.ceil(sum(usual.values())) if usual else most
    return max(1, min(most, sent))
