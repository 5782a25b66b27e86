"""What a task file may say in `[logger]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from gossip.settings import Choice, Seam


class NoLoggerSettings(Choice):
    """metrics.jsonl is enough."""

    implementation = "gossip.telemetry.loggers.none:Nobody"
    kind: str = "none"


class CsvSettings(Choice):
    """metrics.csv beside metrics.jsonl: a table that a spreadsheet opens."""

    implementation = "gossip.telemetry.loggers.csv:Csv"
    kind: str = "csv"


LOGGERS = Seam(
    "logger",
    NoLoggerSettings,
    CsvSettings,
    group="gossip.loggers",
    base="gossip.telemetry.loggers.base:Logger",
)
Logger = Annotated[SerializeAsAny[Choice], BeforeValidator(LOGGERS.validate)]
