"""CONTRIBUTING.md does what it says: every block is run, as a user's own and as one of ours, and both give the same."""

from __future__ import annotations

import gc
import importlib
import re
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import Field

import scenarios
import topologies
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.learning.settings import PARTITIONS
from gossip.learning.updates.settings import OPTIMIZERS
from gossip.merging.settings import MERGES
from gossip.outgoing.settings import OUTGOINGS
from gossip.protocols.settings import PROTOCOLS
from gossip.settings import Choice, Seam
from gossip.telemetry.loggers.settings import LOGGERS
from gossip.wire.codecs.settings import CODECS
from scenarios.attacks.settings import ATTACKS, AttackSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SEAMS = (MERGES, OPTIMIZERS, CODECS, OUTGOINGS, PROTOCOLS, OBJECTIVES, PARTITIONS, LOGGERS, ATTACKS)
SCENARIO = """
[scenario]
peers = 3
algorithm = "dfedavg"
[local]
steps = 2
[stop]
rounds = 2
[model]
name = "logistic"
"""


class Block(NamedTuple):
    """A block of code: its language, what stands behind it, and its text."""

    language: str
    name: str
    text: str


class Example(NamedTuple):
    """One section: the user's file, what a scenario says of it, and how it becomes one of ours."""

    file: Block
    settings: Block
    ours: Block


def blocks(text: str) -> list[Block]:
    found = re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


EXAMPLES = {
    section.partition("\n")[0]: Example(*blocks(section))
    for section in re.split(r"^### ", TEXT.partition("\n## Before")[0], flags=re.MULTILINE)[1:]
}
ENTRY_POINTS = tomllib.loads(next(each.text for each in blocks(TEXT) if each.name == "pyproject.toml"))[
    "project"
]["entry-points"]


def test_there_is_an_example_for_every_seam_and_no_block_is_left_out() -> None:
    groups = {seam.group for seam in SEAMS} | {"gossip.topologies"}
    assert set(ENTRY_POINTS) == groups
    assert len(EXAMPLES) == len(groups)
    shell = [each for each in blocks(TEXT) if each.language == "sh"]
    assert len(blocks(TEXT)) == 3 * len(EXAMPLES) + 1 + len(shell)
    assert TEXT.count("```") == 2 * len(blocks(TEXT))


def test_its_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks(TEXT):
        for line in block.text.splitlines() if block.language == "sh" else ():
            words = line.partition("#")[0].split()
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
            else:
                assert words[0] == "python"
                assert (ROOT / words[-1]).is_file()


def test_the_files_that_it_names_are_there() -> None:
    new = {
        each.ours.text.partition('implementation = "')[2].partition(":")[0].replace(".", "/") + ".py"
        for each in EXAMPLES.values()
    }
    named = set(re.findall(r"`((?:gossip|scenarios|topologies|tests|tools|docs)/[^`\s]+)`", TEXT))
    assert len(named) > 20
    assert {each for each in named if not (ROOT / each).exists()} <= new


@pytest.mark.parametrize("section", EXAMPLES)
def test_each_example_is_an_entry_point_of_the_package_that_it_shows(section: str) -> None:
    file, settings, _ = EXAMPLES[section]
    module, _, name = re.findall(r'"python:(\w+)\.py(:)(\w+)"', settings.text)[0]
    assert file.name == f"{module}.py"
    assert f"{module}:{name}" in [value for group in ENTRY_POINTS.values() for value in group.values()]


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few small peers leave nothing behind, and to look for it would take longer than they do."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture
def registered() -> Iterator[list[tuple[Any, str]]]:
    """Registries and names that the test has added to them; taken out again afterwards."""
    added: list[tuple[Any, str]] = []
    yield added
    for entries, name in added:
        entries.pop(name, None)


def run(tmp_path: Path, settings: str, name: str) -> dict[str, Any]:
    """Run the scenario with `settings`, their tables laid over its own."""
    tables = tomllib.loads(settings)
    values = {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}
    (tmp_path / "mine.toml").write_text(SCENARIO)
    return scenarios.run(tmp_path / "mine.toml", overrides=values, report=False, out=tmp_path / name).summary


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    digest: str = run(tmp_path_factory.mktemp("plain"), "", "run")["model_digest"]
    return digest


@pytest.mark.parametrize("section", EXAMPLES)
def test_each_example_acts_as_a_users_own_file(
    section: str, tmp_path: Path, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, settings, _ = EXAMPLES[section]
    (tmp_path / file.name).write_text(file.text)
    monkeypatch.chdir(tmp_path)
    digest = run(tmp_path, settings.text, "own")["model_digest"]
    if section == "A logger":
        assert digest == plain
        assert len((tmp_path / "own" / "best.txt").read_text().splitlines()) == 3
    else:
        assert digest != plain


def test_all_together_are_the_same_as_users_own_and_as_ours(
    tmp_path: Path, registered: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = kinds = ""
    for file, settings, ours in EXAMPLES.values():
        (tmp_path / file.name).write_text(file.text)
        module = types.ModuleType(file.name.removesuffix(".py"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(file.text, file.name, "exec"), module.__dict__)
        kind = become_ours(ours, module, registered, monkeypatch)
        own += settings.text
        kinds += re.sub(r'"python:[^"]+"', f'"{kind}"', settings.text)
    assert "python:" not in kinds
    digests = {run(tmp_path, each, str(number))["model_digest"] for number, each in enumerate((own, kinds))}
    assert len(digests) == 1


def become_ours(
    ours: Block, module: types.ModuleType, registered: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Do what the page says, for as long as the test lasts; return the kind."""
    if ours.name == "topologies/families.py":
        entry = eval(f"{{{ours.text}}}", {**vars(module), "Family": topologies.Family})
        topologies.FAMILIES.update(entry)
        registered.extend((topologies.FAMILIES, name) for name in entry)
        return str(next(iter(entry)))
    names = {"Choice": Choice, "AttackSettings": AttackSettings, "Field": Field, "__name__": "ours"}
    exec(compile(ours.text, ours.name, "exec"), names)
    choice = next(each for each in names.values() if isinstance(each, type) and each.__module__ == "ours")
    home, _, name = choice.implementation.partition(":")
    try:
        place = importlib.import_module(home)
    except ModuleNotFoundError:
        place = types.ModuleType(home)
        monkeypatch.setitem(sys.modules, home, place)
    monkeypatch.setattr(place, name, getattr(module, name), raising=False)
    seam = seam_of(ours.name)
    seam.add(choice)
    kind = str(choice.model_fields["kind"].default)
    registered.append((seam._registry._entries, kind))
    return kind


def seam_of(file: str) -> Seam:
    """Return the seam whose choices stand in a file."""
    home = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    return next(each for each in vars(home).values() if isinstance(each, Seam) and each in SEAMS)
