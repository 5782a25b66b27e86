"""The tools of `tools/torture` in their smallest forms: what they try must hold, and they must be able to try it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import TOOLS, importing


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    with importing("torture") as tool:
        yield tool


def test_the_enemy_imports_nothing_of_the_node():
    ours = {"gossip", "scenarios", "topologies", "arena"}
    enemies = sorted(path.name for path in (TOOLS / "torture").glob("enemy*.py"))
    assert len(enemies) > 1
    for name in ("client.py", *enemies, "malformed.py"):
        imported = set()
        for node in ast.walk(ast.parse((TOOLS / "torture" / name).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
        assert not imported & ours, name


def test_killed_nodes_lose_nothing_but_the_round_in_progress(tool, started):
    verdicts = tool("kills").kills(started, count=2, peers=2, rounds=6, seed=2)
    assert verdicts.broken == []
    assert verdicts.rows[-1].figures["kills"] == "2"


def test_strangers_are_not_let_in_and_move_nobody(tool, started):
    hostile = tool("hostile")
    verdicts = hostile.trials(started, hostile.SMOKE, rounds=5, pace_s=0.05)
    assert verdicts.broken == []
    assert len(verdicts.rows) == len(hostile.SMOKE) > 0


def test_a_full_disk_ends_nothing(tool, started):
    verdicts = tool("disk").disk(started, ["a full disk"])
    assert verdicts.broken == []
    assert [row.name for row in verdicts.rows] == ["a full disk"]


def test_a_broken_promise_is_told_and_counted(tool, capsys):
    verdicts = tool("verdicts").Verdicts("trials")
    verdicts.add(tool("verdicts").Row("one [ring]", {"pace": "90%"}))
    assert verdicts.show() == 0
    verdicts.add(tool("verdicts").Row("two", {"pace": "10%"}, ["pace 10%"]))
    assert verdicts.show() == 1
    assert verdicts.broken == ["two: pace 10%"]
    assert "one [ring]" in capsys.readouterr().out


def test_methods_that_meet_in_one_file_run_or_are_refused_in_one_sentence(tool, tmp_path):
    tried = tool("combinations")
    rows = tried.combinations(seed=1, every=300, extra=8)
    found = [(row, *tried.tried(row, tmp_path / "run")) for row in rows]
    assert [each for each in found if each[1] == "broken"] == []
    assert {what for _, what, _ in found} == {"ran", "refused"}
