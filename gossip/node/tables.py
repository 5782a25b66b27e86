"""What a node makes of its table of prototypes: a measurement with each evaluated round, and a file at the end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gossip.channels.settings import MEASURED
from gossip.protocols.rounds.carrying import CarryingRounds
from gossip.protocols.tables import Table
from gossip.storage.atomic import write_atomically
from gossip.storage.models import PROTOTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from gossip.node.held import Measured
    from gossip.node.learning_thread import LearningThread
    from gossip.node.setup import Setup
    from gossip.protocols.base import Protocol
    from gossip.protocols.tables import Row


class NodeTable:
    """Of a node without `[channel]` it does nothing."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._protocol: CarryingRounds | None = None
        self._measured: tuple[Row, ...] | None = None
        """The table as of the newest evaluated round."""

    def attend(self, protocol: Protocol) -> None:
        """Note whose table it is."""
        self._protocol = protocol if isinstance(protocol, CarryingRounds) else None

    def measure(self, thread: LearningThread, entry: dict[str, Any]) -> None:
        """Have the table, as it is now, evaluated for a measurement."""
        samples = self._setup.samples
        if self._protocol is None or samples is None:
            return
        rows = self._measured = self._protocol.table.rows
        thread.submit(lambda: samples.told(rows, length_max=self._length_max), entry.update)

    def told(self, last: Measured | None) -> Mapping[str, Any]:
        """Return what summary.json and `status` say of the newest measurement's table; {} where there is none."""
        return {} if last is None else {key: last.entry[key] for key in MEASURED if key in last.entry}

    def write(self, home: Path) -> None:
        """Write the prototypes of the newest measurement.

        Raises:
            OSError: the file could not be written.
        """
        if self._measured is not None and self._setup.samples is not None:
            file = self._setup.samples.file(self._measured, length_max=self._length_max)
            write_atomically(home / PROTOTYPES, file)

    @property
    def files(self) -> tuple[str, ...]:
        """What `write` leaves."""
        return () if self._setup.samples is None else (PROTOTYPES,)

    def complete(self, state: Mapping[str, int | float | str], home: Path) -> Mapping[str, float | int]:
        """Write the prototypes of a checkpoint's table, and return what a measurement says of it.

        Raises:
            OSError: as `write`.
        """
        samples = self._setup.samples
        if samples is None:
            return {}
        self._measured = Table(samples.shape, lambda peer: {}, state).rows
        self.write(home)
        return samples.told(self._measured, length_max=self._length_max)

    @cached_property
    def _length_max(self) -> float:
        assert self._setup.samples is not None
        return self._setup.samples.length_max(self._setup.learner.shard.x)
