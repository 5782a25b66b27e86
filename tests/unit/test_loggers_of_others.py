"""TensorBoard, MLflow, Weights & Biases have what metrics.jsonl says; one that is missing is a sentence."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gossip.errors import SettingError
from gossip.telemetry.loggers.base import open_logger
from gossip.telemetry.loggers.settings import LOGGERS
from gossip.telemetry.loggers.values import measured

ENTRY = {"peer": "alice", "round": 2, "time": 1.5, "accuracy": 0.25, "loss": None, "done": True, "note": "x"}


def opened(tmp_path: Path, kind: str, round: int = 0, **settings: Any) -> Any:
    logger = open_logger(LOGGERS.validate({"kind": kind, **settings}), tmp_path)
    logger.begin(round)
    return logger


def test_what_is_a_number_is_measured() -> None:
    assert measured(ENTRY) == {"time": 1.5, "accuracy": 0.25}


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("tensorboard", "tensorboard.compat.proto.event_pb2"),
        ("mlflow", "mlflow.tracking"),
        ("wandb", "wandb"),
    ],
)
def test_one_that_is_not_installed_is_one_sentence(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingError) as caught:
        opened(tmp_path, kind)
    assert str(caught.value) == (
        f"[logger] kind = '{kind}' writes with {kind}, which is not installed: pip install 'gossip-node[{kind}]'"
    )


def told_to_tensorboard(path: Path) -> list[tuple[int, float, dict[str, float]]]:
    """Return step, time and values of each event that TensorBoard's own reader finds, restarts as it sees them."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    told: list[tuple[int, float, dict[str, float]]] = []
    (file,) = path.iterdir()
    for event in LegacyEventFileLoader(str(file)).Load():
        if event.HasField("session_log"):
            told = [each for each in told if each[0] < event.step]
        elif event.HasField("summary"):
            values = {value.tag: value.simple_value for value in event.summary.value}
            told.append((event.step, event.wall_time, values))
    return told


def test_tensorboard_reads_what_was_measured_and_not_what_is_done_again(tmp_path: Path) -> None:
    first = opened(tmp_path, "tensorboard")
    for round in (1, 2, 3):
        first.log({**ENTRY, "round": round})
        first.log({**ENTRY, "peer": "bob", "round": round})
    again = opened(tmp_path, "tensorboard", 2)
    again.log({**ENTRY, "round": 3, "accuracy": 0.5})
    again.end()
    runs = tmp_path / "tensorboard"
    assert {path.name for path in runs.iterdir()} == {"alice", "bob"}
    values = {"time": 1.5, "accuracy": 0.25}
    assert told_to_tensorboard(runs / "alice") == [
        (1, 1.5, values),
        (2, 1.5, values),
        (3, 1.5, {**values, "accuracy": 0.5}),
    ]
    assert [step for step, _, _ in told_to_tensorboard(runs / "bob")] == [1, 2]
    opened(tmp_path, "tensorboard", 0)
    assert not runs.exists()


class Server:
    """As much of MLflow's client as is used; what it is told is kept by the class."""

    told: list[Any]
    experiments: dict[str, str]

    def __init__(self, tracking_uri: str) -> None:
        self.told.append(("uri", tracking_uri))

    def get_experiment_by_name(self, name: str) -> Any:
        return (
            types.SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None
        )

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"experiment-{len(self.experiments)}")

    def create_run(self, experiment: str, *, run_name: str) -> Any:
        self.told.append(("run", experiment, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run-{run_name}"))

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        self.told.append((run, metrics))

    def set_terminated(self, run: str) -> None:
        self.told.append(("ended", run))


def test_mlflow_has_a_run_for_each_peer_that_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Server.told, Server.experiments = [], {}
    tracking, entities = types.ModuleType("mlflow.tracking"), types.ModuleType("mlflow.entities")
    monkeypatch.setattr(tracking, "MlflowClient", Server, raising=False)
    monkeypatch.setattr(entities, "Metric", lambda *values: values, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    opened(tmp_path, "mlflow").log(ENTRY)
    again = opened(tmp_path, "mlflow", 2)
    again.log({**ENTRY, "round": 3})
    again.end()
    at = ("uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    values = [("time", 1.5, 1500, 2), ("accuracy", 0.25, 1500, 2)]
    assert Server.told == [
        at,
        ("run", "experiment-0", "alice"),
        ("run-alice", values),
        at,
        ("run-alice", [(*value[:3], 3) for value in values]),
        ("ended", "run-alice"),
    ]
    assert json.loads((tmp_path / "mlflow-runs.json").read_text()) == {"alice": "run-alice"}

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    opened(tmp_path, "mlflow", uri="http://127.0.0.1:5000")
    assert Server.told[-1] == ("uri", "http://127.0.0.1:5000")


def test_wandb_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    run = types.SimpleNamespace(
        define_metric=lambda *names, **axis: told.append((*names, axis)),
        log=lambda values: told.append(values),
        finish=lambda: told.append("finished"),
    )
    wandb = types.ModuleType("wandb")
    monkeypatch.setattr(wandb, "Settings", lambda **settings: settings, raising=False)
    monkeypatch.setattr(wandb, "init", lambda **said: told.append(said) or run, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logger = opened(tmp_path, "wandb")
    logger.log(ENTRY)
    logger.end()
    assert told[0]["dir"] == str(tmp_path)
    assert told[0]["settings"]["mode"] == "offline"
    assert told[1:] == [
        ("*", {"step_metric": "round"}),
        {"round": 2, "time/alice": 1.5, "accuracy/alice": 0.25},
        "finished",
    ]
