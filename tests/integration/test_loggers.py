"""Where measurements go beside metrics.jsonl: alike in a simulation and on real nodes, and never in learning's way."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.config.loading import load_task
from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.storage.run_record import read_lines
from gossip.telemetry.loggers.base import open_logger
from gossip.telemetry.loggers.settings import LOGGERS

EXAMPLE = Path(__file__).parents[2] / "examples" / "extending" / "own_logger.py"
SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 3,
    "stop.rounds": 2,
    "topology.kind": "full",
    "local.epochs": 1,
}
BREAKS = """
import gossip
class Breaks(gossip.Logger):
    def begin(self, round):
        raise ValueError("no server")
    def log(self, entry):
        entry.clear()
        raise OSError("no server")
    def end(self):
        raise SystemExit(4)
"""


def run(tmp_path: Path, name: str, engine: str = "virtual", **values: Any) -> Any:
    own = {key.replace("_", "."): value for key, value in values.items()}
    return scenarios.run(
        "quickstart", engine=engine, overrides={**SMALL, **own}, report=False, out=tmp_path / name
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def told(entry: dict[str, Any], columns: Any) -> dict[str, str]:
    return {key: "" if entry.get(key) is None else str(entry[key]) for key in columns}


def test_the_table_of_a_simulation_is_what_metrics_jsonl_says(tmp_path: Path) -> None:
    run(tmp_path, "run", logger_kind="csv")
    table = rows(tmp_path / "run" / "metrics.csv")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(table) == len(lines) == 6
    table.sort(key=lambda row: (int(row["round"]), row["peer"]))
    assert table == [told(line, table[0]) for line in lines]


def test_real_nodes_have_a_logger_each_and_a_users_own_works_there(tmp_path: Path) -> None:
    run(tmp_path, "own", "processes", logger_kind=f"python:{EXAMPLE}:Best", logger_digits=2)
    for home in (tmp_path / "own" / "peers").iterdir():
        best = max(read_lines(home / "metrics.jsonl"), key=lambda line: line["accuracy"])
        said = f"{home.name} {best['accuracy']:.2f} in round {best['round']}\n"
        assert (home / "best.txt").read_text() == said


def test_a_logger_that_fails_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS)
    plain = run(tmp_path, "plain")
    with caplog.at_level(logging.ERROR, "gossip.node"):
        broken = run(tmp_path, "broken", logger_kind=f"python:{tmp_path / 'breaks.py'}:Breaks")
    assert broken.metrics == plain.metrics
    assert "measurements not logged: ValueError: no server; learning goes on" in caplog.text
    assert "the logger not closed: SystemExit: 4" in caplog.text


def test_no_loggers_failure_ends_a_node(tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS)
    result = run(tmp_path, "run", "processes", logger_kind=f"python:{tmp_path / 'breaks.py'}:Breaks")
    assert {peer["state"] for peer in result.peers} == {"finished"}
    assert len(result.metrics) == 6
    log = next((tmp_path / "run" / "peers").iterdir()) / "node.log"
    assert "measurements not logged" in log.read_text()


def test_what_was_told_of_rounds_that_are_done_again_is_taken_back(tmp_path: Path) -> None:
    def opened(round: int) -> Any:
        logger = open_logger(LOGGERS.validate({"kind": "csv"}), tmp_path)
        logger.begin(round)
        return logger

    first = opened(0)
    for round in (1, 2, 3):
        first.log({"peer": 'a "quoted", name', "round": round, "loss": None})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("a,4,torn")
    again = opened(2)
    again.log({"peer": "a", "round": 3, "loss": 0.5})
    table = rows(tmp_path / "metrics.csv")
    assert [(row["peer"], row["round"], row["loss"]) for row in table] == [
        ('a "quoted", name', "1", ""),
        ('a "quoted", name', "2", ""),
        ("a", "3", "0.5"),
    ]
    assert opened(0) is not None
    assert rows(tmp_path / "metrics.csv") == []


def test_peers_need_not_log_alike(tmp_path: Path) -> None:
    logs = TaskSettings.model_validate({"logger": {"kind": "csv"}})
    assert logs.agreement() == TaskSettings().agreement()


def test_what_is_no_logger_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import gossip\nclass Fails(gossip.Logger):\n"
        "    def __init__(self, settings, *, folder):\n        self.server = settings.server\n"
        "    def log(self, entry):\n        pass\n"
        "class Nothing:\n    pass\n"
    )
    task = tmp_path / "task.toml"
    task.write_text('[logger]\nkind = "python:own.py:Nothing"\n')
    with pytest.raises(SettingError, match="is no Logger") as caught:
        load_task(task)
    assert str(caught.value).startswith(f"{task}:1: [logger]")
    with pytest.raises(SettingError, match="fails when it is made: AttributeError") as caught:
        run(tmp_path, "run", logger_kind=f"python:{tmp_path / 'own.py'}:Fails")
    assert "\n" not in str(caught.value)
