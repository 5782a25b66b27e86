"""SECURITY.md names the test of each promise: they are there, and so are the torture rows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    for path, function in named:
        found = {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")
        }
        assert function in found, f"{path} has no {function}"


def test_every_torture_that_is_named_exists_and_knows_the_words():
    named = re.findall(r"`(\w+\.py)(?: --only ([^`]+))?`", PAGE)
    assert len({tool for tool, _ in named}) >= 5
    for tool, words in named:
        text = (ROOT / "tools" / "torture" / tool).read_text()
        for word in re.findall(r'"([^"]+)"|(\S+)', words):
            assert (word[0] or word[1]) in text, f"{tool} has no row with {word}"


def test_every_promise_has_a_test():
    rows = [line for line in PAGE.split("## What is not promised")[0].splitlines() if line.startswith("| ")]
    promises = [row for row in rows if "held by" not in row and row.count("|") == 3]
    assert len(promises) > 15
    assert all("`" in row.split("|")[2] for row in promises)
