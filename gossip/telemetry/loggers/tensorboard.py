"""Measurements for TensorBoard: a folder of event files, which it reads while they grow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip.extras import needed
from gossip.telemetry.loggers.base import Logger
from gossip.telemetry.loggers.values import measured


class TensorBoard(Logger):
    """FOLDER/tensorboard/PEER: a run for each peer, the round as its step, seconds of the run as its time.

    A file is open only while an event is written: thousands of peers hold nothing, and who is killed loses nothing.

    Raises:
        SettingError: tensorboard is not installed.
    """

    def __init__(self, settings: Any, *, folder: Path) -> None:
        super().__init__(settings, folder=folder)
        use = "[logger] kind = 'tensorboard' writes with tensorboard"
        self._events = needed("tensorboard.compat.proto.event_pb2", use, extra="tensorboard")
        self._summaries = needed("tensorboard.compat.proto.summary_pb2", use, extra="tensorboard")
        self._writer = needed(
            "tensorboard.summary.writer.record_writer", use, extra="tensorboard"
        ).RecordWriter

    @property
    def _path(self) -> Path:
        return self.folder / "tensorboard"

    def begin(self, round: int) -> None:
        """Keep what was told of rounds up to `round`; TensorBoard itself leaves out what is later."""
        if not round:
            shutil.rmtree(self._path, ignore_errors=True)
        status = self._events.SessionLog(status=self._events.SessionLog.START)
        for peer in self._path.iterdir() if self._path.is_dir() else ():
            self._write(peer, self._events.Event(step=round + 1, session_log=status))

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add an event with all that was measured."""
        peer = self._path / str(entry["peer"])
        if not peer.exists():
            peer.mkdir(parents=True)
            self._write(peer, self._events.Event(file_version="brain.Event:2"))
        values = [
            self._summaries.Summary.Value(tag=name, simple_value=value)
            for name, value in measured(entry).items()
        ]
        self._write(
            peer,
            self._events.Event(
                step=int(entry["round"]),
                wall_time=float(entry.get("time") or 0.0),
                summary=self._summaries.Summary(value=values),
            ),
        )

    def _write(self, peer: Path, event: Any) -> None:
        with (peer / "events.out.tfevents.0.gossip-node").open("ab") as file:
            self._writer(file).write(event.SerializeToString())
