"""What has grown beyond what is read at one sitting is split where the concept is: files, functions, constructors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("gossip", "scenarios", "topologies", "tools")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
CONSTRUCTOR_PARAMETERS_MAX = 12


def sources() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.lineno} {node.name}", node


def test_no_file_is_too_long() -> None:
    lengths = {path: source.count("\n") for path, source in sources()}
    assert len(lengths) > 300
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_no_function_is_too_long() -> None:
    lengths = {where: (node.end_lineno or 0) - node.lineno + 1 for where, node in functions()}
    assert {where: lines for where, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_no_constructor_takes_too_much() -> None:
    taken = {
        where: len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
        for where, node in functions()
        if node.name == "__init__"
    }
    assert len(taken) > 100
    assert {where: count for where, count in taken.items() if count > CONSTRUCTOR_PARAMETERS_MAX} == {}
