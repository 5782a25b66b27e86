"""`gossip-scenario`: answers, exit codes, and one sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.text import Text

from gossip import __version__
from gossip import cli as node_cli
from gossip.config.presets import PRESETS, SEEN
from scenarios import cli, scenario


@pytest.mark.parametrize("module", ["scenarios.cli import call", "gossip.cli import run as call"])
def test_the_command_line_answers_without_torch(module: str) -> None:
    script = (
        f"import sys; from {module}; code = call(['--help']);"
        "heavy = {'torch', 'networkx', 'pydantic', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    checked = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(cli.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    commands = (
        ("list", "run", "report", "topology") if "scenarios" in module else ("new", "init", "check", "status")
    )
    for command in commands:
        assert command in checked.stdout


def test_list_names_every_ready_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(scenario.library())
    assert cli.call(["list"]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_list_says_what_a_preset_was_chosen_on_and_what_was_seen_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(SEEN) == {name for name, sections in PRESETS.items() if "sam_rho" in sections.get("local", {})}
    assert cli.call(["list", "--json"]) == 0
    for entry in json.loads(capsys.readouterr().out):
        assert entry["seen"] == SEEN.get(entry["algorithm"])
    assert cli.call(["list"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for algorithm, seen in SEEN.items():
        assert f"{algorithm}: {seen}" in shown


def test_topology_answers_in_json_and_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["topology", "ring", "--peers", "16", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["lambda"] == pytest.approx(0.9493, abs=5e-5)
    assert seen["doubly_stochastic"] is True
    assert cli.call(["topology", "regular", "--peers", "10", "--degree", "3", "--time-varying"]) == 0
    assert "per round" in capsys.readouterr().out


def test_topology_tells_communities_and_what_joins_them(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["topology", "community", "--peers", "30", "--communities", "3", "--degree-between", "0.5"]
    assert cli.call([*asked, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["communities"]["sizes"], seen["connected"]) == ([10, 10, 10], True)
    assert cli.call(asked) == 0
    told = capsys.readouterr().out
    assert "3 of 10 peers" in told
    assert f"{seen['communities']['bridges']:g}" in told
    assert cli.call([*asked, "--probability-between", "0.1"]) == 2
    assert "not both" in capsys.readouterr().err


def test_a_topology_of_ones_own_is_described_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(
        "import networkx as nx\n\ndef path(request):\n    return nx.path_graph(request.peers)\n"
    )
    asked = ["topology", f"python:{tmp_path / 'own.py'}:path", "--peers", "5"]
    assert cli.call([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["diameter"] == 4
    assert cli.call(["topology", "python:nowhere.py:path", "--peers", "5"]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["topology", "rign", "--peers", "8"], "unknown topology 'rign'; did you mean 'ring'?"),
        (["topology", "torus", "--peers", "7"], "torus needs"),
        (["topology", "ring"], "Missing option '--peers'"),
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "nothing-like-it"], "unknown scenario 'nothing-like-it'"),
        (
            ["run", "quickstart", "--engine", "proceses"],
            "--engine proceses: unknown engine; did you mean",
        ),
        (["run", "quickstart", "--set", "local.lr=x"], "--set local.lr=x: [local] lr = 'x': "),
        (["run", "quickstart", "--set", "lr"], "must look like SECTION.KEY=VALUE"),
        (["run", "quickstart", "--sed", "3"], "No such option: --sed"),
        (["report", "absent"], "absent: holds no finished run"),
        (["rn"], "No such command 'rn'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.call(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gossip-scenario: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_help_text_loses_what_stands_in_brackets() -> None:
    for app in (cli.app, node_cli.app):
        group = typer.main.get_command(app)
        commands = [group, *getattr(group, "commands", {}).values()]
        assert len(commands) > 3
        for command in commands:
            for told in (command.help, *(getattr(each, "help", None) for each in command.params)):
                if app.rich_markup_mode is None:
                    assert "\\[" not in (told or ""), "it is shown as it stands"
                else:
                    # Rich takes [model] for a style, and shows nothing.
                    assert Text.from_markup(told or "").plain == (told or "").replace("\\[", "[")


def test_the_help_of_pretrain_names_the_setting_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["pretrain", "--help"]):
        assert cli.call(arguments) == 0
        assert "Make a frozen extractor for `[model] extractor`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "program"),
    [(cli.call, "gossip-scenario"), (node_cli.run, "gossip-node")],
    ids=["scenario", "node"],
)
def test_the_version_is_that_of_the_package(
    run: Callable[[list[str]], int], program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{program} {__version__}\n"
    project = tomllib.loads((Path(cli.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
