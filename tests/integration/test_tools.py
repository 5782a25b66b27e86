"""Every tool runs in its smallest form: they use the project's classes, and a changed one must not leave them behind.

Tools are found by looking into the folders: a new one is run without a line here, and fails without `--smoke`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.integration.conftest import TOOLS, importing

FOLDERS = ("bench", "fuzz", "reproduce", "torture")
FILES = [path for folder in FOLDERS for path in sorted((TOOLS / folder).glob("*.py"))]
COMMANDS = [
    f"{path.parent.name}/{path.stem}" for path in FILES if "__main__" in path.read_text(encoding="utf-8")
]
LIBRARIES = [name for path in FILES if (name := f"{path.parent.name}/{path.stem}") not in COMMANDS]

NOT_FOR_PEOPLE = ("torture/enemy",)
"""Other tools start it."""
ELSEWHERE: Mapping[str, str] = {
    "bench/all": "starts the other benches",
    "torture/kills": "in test_torture",
    "torture/hostile": "in test_torture",
    "torture/disk": "in test_torture",
    "torture/clusters": "whole sweeps, by Slurm's stand-in and Ray; in test_clusters and test_machines",
    "torture/flood": "holds a node to its pace and its answers' latency, which a busy machine breaks",
    "torture/machines": "real nodes by several programs, and Ray; in test_machines",
    "torture/neighbours": "holds nodes to their pace, which a busy machine breaks",
    "torture/soak": "needs some seconds of samples",
}


def tool(name: str) -> Any:
    folder, _, module = name.partition("/")
    with importing(folder) as load:
        return load(module)


def run(name: str, *arguments: str, request: pytest.FixtureRequest) -> int:
    """Run a tool's command line in this process, with the fork server that all tests share where it takes one."""
    folder, _, module = name.partition("/")
    with importing(folder) as load:
        main = load(module).main
        wanted = {"started": request.getfixturevalue("started")} if takes(main, "started") else {}
        code = main(list(arguments), **wanted)
    assert isinstance(code, int)
    return code


def takes(function: Any, parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters


def something(said: str) -> None:
    assert said


def every_way_and_few_bytes(said: str) -> None:
    """All four ways have a speed, and a message costs less than 300 bytes beyond its tensors."""
    found = re.search(r"0\.01 MB((?: +\d+){4})", said)
    assert found
    assert all(int(speed) > 0 for speed in found[1].split())
    found = re.search(r"bytes beyond the tensors: (\d+) at 0\.01 MB", said)
    assert found
    assert int(found[1]) < 300


CHECKS: Mapping[str, Callable[[str], None]] = {"bench/wire": every_way_and_few_bytes}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in (*NOT_FOR_PEOPLE, *ELSEWHERE)])
def test_a_tool_runs_in_its_smallest_form(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--smoke", request=request) == 0
    CHECKS.get(name, something)(capsys.readouterr().out)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NOT_FOR_PEOPLE])
def test_a_tool_has_a_smallest_form_and_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tool(name).main(["--help"])
    assert ended.value.code == 0
    assert "--smoke" in capsys.readouterr().out


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_tools_share_can_be_imported(name: str) -> None:
    assert not hasattr(tool(name), "main")


def test_what_is_said_of_tools_is_said_of_tools_that_there_are() -> None:
    assert {*NOT_FOR_PEOPLE, *ELSEWHERE} <= set(COMMANDS)
    assert {name.partition("/")[0] for name in COMMANDS} == set(FOLDERS)


def test_figures_of_all_benches_are_found_however_they_are_nested_and_held_to_their_limits() -> None:
    every = tool("bench/all")
    said = {
        "1 threads": [{"codec": "int8", "share": 0.4, "wanted": 0.5, "encode_gb_per_s": 3.0}],
        "throughput": [{"size_mb": 1, "gossip_against": {"ssl": 0.9}}],
        "rows": [
            {"what": "merge", "name": "median", "ms": 3.0, "/ copy": 2.0},
            {"peers": 2000, "growth": 1.7},
        ],
    }
    found = {(row, key): (value, wanted) for row, key, value, wanted in every.figures(said)}
    assert found == {
        ("1 threads · int8", "share"): (0.4, 0.5),
        ("throughput · 1 MB", "gossip / ssl"): (0.9, None),
        ("rows · merge · median", "/ copy"): (2.0, None),
        ("rows · 2000", "growth"): (1.7, None),
    }
    slower = {key: (2 * value, wanted) for key, (value, wanted) in found.items()}
    rows = every.rows_of("scaling", [{"here": found, "there": slower}])
    assert [row["here / there"] for row in rows] == [0.5] * 4
    assert {row["figure"]: row["limit"] for row in rows if not row["holds"]} == {
        "share": "≥ 0.5",
        "growth": "≤ 1.5",
    }
