"""Measurements for MLflow: a database beside the records, or a server that others write to as well."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip.extras import needed
from gossip.storage.atomic import write_atomically
from gossip.telemetry.loggers.base import Logger
from gossip.telemetry.loggers.values import measured

RUNS = "mlflow-runs.json"
"""FOLDER/…: peer -> run, so that a node that comes back goes on with its own."""


class MLflow(Logger):
    """A run for each peer in an experiment. What is measured again after a restart stands there twice.

    Raises:
        SettingError: mlflow is not installed.
    """

    def __init__(self, settings: Any, *, folder: Path) -> None:
        super().__init__(settings, folder=folder)
        # It tells its makers of its use otherwise; a peer speaks to its peers only.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        use = "[logger] kind = 'mlflow' writes with mlflow"
        self._client = needed("mlflow.tracking", use, extra="mlflow").MlflowClient
        self._metric = needed("mlflow.entities", use, extra="mlflow").Metric

    @property
    def _path(self) -> Path:
        return self.folder / RUNS

    def begin(self, round: int) -> None:
        """Open the experiment, and the runs of an earlier process where there is something to go on with."""
        uri = self.settings.uri or f"sqlite:///{(self.folder / 'mlflow.db').absolute()}"
        self._server = self._client(tracking_uri=uri)
        found = self._server.get_experiment_by_name(self.settings.experiment)
        self._experiment = (
            self._server.create_experiment(self.settings.experiment) if found is None else found.experiment_id
        )
        self._runs: dict[str, str] = {}
        if round and self._path.exists():
            self._runs = json.loads(self._path.read_text(encoding="utf-8"))

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add what was measured, the round as its step, seconds of the run as its time."""
        peer = str(entry["peer"])
        if peer not in self._runs:
            self._runs[peer] = self._server.create_run(self._experiment, run_name=peer).info.run_id
            write_atomically(self._path, json.dumps(self._runs).encode(), durable=False)
        at, step = round(1000 * float(entry.get("time") or 0.0)), int(entry["round"])  # milliseconds
        values = [self._metric(name, value, at, step) for name, value in measured(entry).items()]
        self._server.log_batch(self._runs[peer], values)

    def end(self) -> None:
        """Say of each run that it is finished."""
        for run in self._runs.values():
            self._server.set_terminated(run)
