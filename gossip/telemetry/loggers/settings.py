"""What a task file may say in `[logger]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny

from gossip.settings import Choice, Seam


class NoLoggerSettings(Choice):
    """metrics.jsonl is enough."""

    implementation = "gossip.telemetry.loggers.none:Nobody"
    kind: str = "none"


class CsvSettings(Choice):
    """metrics.csv beside metrics.jsonl: a table that a spreadsheet opens."""

    implementation = "gossip.telemetry.loggers.csv:Csv"
    kind: str = "csv"


class TensorBoardSettings(Choice):
    """tensorboard/PEER: event files, a run for each peer; takes pip install 'gossip-node[tensorboard]'."""

    implementation = "gossip.telemetry.loggers.tensorboard:TensorBoard"
    kind: str = "tensorboard"


class MLflowSettings(Choice):
    """An MLflow experiment, a run for each peer; takes pip install 'gossip-node[mlflow]'."""

    implementation = "gossip.telemetry.loggers.mlflow:MLflow"
    kind: str = "mlflow"
    uri: str = Field(
        "",
        description="of a tracking server, which then hears what is measured; empty: mlflow.db in the own folder",
    )
    experiment: str = Field("gossip-node", min_length=1, description="its name")


class WandbSettings(Choice):
    """A Weights & Biases run that stays on this machine; takes pip install 'gossip-node[wandb]'."""

    implementation = "gossip.telemetry.loggers.wandb:WeightsAndBiases"
    kind: str = "wandb"
    project: str = Field("gossip-node", min_length=1, description="its name")


LOGGERS = Seam(
    "logger",
    NoLoggerSettings,
    CsvSettings,
    TensorBoardSettings,
    MLflowSettings,
    WandbSettings,
    group="gossip.loggers",
    base="gossip.telemetry.loggers.base:Logger",
)
Logger = Annotated[SerializeAsAny[Choice], BeforeValidator(LOGGERS.validate)]
