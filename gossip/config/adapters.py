"""What an adapter goes together with: said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.learning.updates.settings import AdamWSettings, QuasiGlobalSettings
from gossip.merging.settings import LoraFairSettings, ProductSettings
from topologies import Topology


def check_adapter(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where factors cannot be merged as products; note where they are merged apart."""
    adapter = task.model.adapter
    if isinstance(task.merge, ProductSettings | LoraFairSettings):
        _check_products(task)
    elif adapter is not None and adapter.train == "AB":
        task.note(
            f"[model.adapter] train = 'AB' with [merge] kind = '{task.merge.kind}': averages of the factors are not "
            "the average of their products, and come near it only while peers differ little; train = 'R' or 'B' is "
            "exact, and [merge] kind = 'product' averages products"
        )


def _check_products(task: TaskSettings) -> None:
    where = f"{task.where('merge')} kind = '{task.merge.kind}'"
    adapter = task.model.adapter
    if adapter is None or adapter.train != "AB":
        raise SettingError(
            f"{where} merges pairs of factors, which only [model.adapter] train = 'AB' learns; valid: kind = 'average'"
        )
    if getattr(task.protocol, "parts", 1) != 1:
        raise SettingError(
            f"{where} needs both factors of a layer, and with [protocol] parts = {task.protocol.parts} a message may "  # type: ignore[attr-defined]
            "have one; valid: parts = 1"
        )
    if task.codec.kind == "top-change":
        raise SettingError(
            f"{where} needs factors as they belong together, and with [codec] kind = 'top-change' some of their "
            "numbers are the receiver's own; valid: a codec that sends all, such as int8"
        )
    local, optimizer = task.local, task.local.optimizer
    remembers = {
        "[local] keep_momentum = true": local.keep_momentum and local.momentum > 0,
        "[local] optimizer.keep_moments = true": isinstance(optimizer, AdamWSettings)
        and optimizer.keep_moments,
        "[local] optimizer.kind = 'quasi-global'": isinstance(optimizer, QuasiGlobalSettings),
        f"[outer] kind = '{task.outer.kind}'": not task.outer.nothing,
    }
    for what, holds in remembers.items():
        if holds:
            raise SettingError(
                f"{where} turns the factors anew in every merge, and {what} remembers directions of the old ones; "
                "valid: without it"
            )
