"""The site says what is so: blocks are run, or marked with a reason and read; settings are written from the code."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from gossip import cli as node_cli
from gossip.config import load_task
from gossip.config.task import TaskSettings
from gossip.settings import Settings
from gossip.telemetry import prometheus
from scenarios import cli as scenario_cli
from scenarios import scenario
from tests.integration.test_examples import LOOP, Shell

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import pages  # noqa: E402
import told_settings  # noqa: E402

PAGES = sorted((ROOT / "docs").rglob("*.md"))
OWN = [path for path in PAGES if path.name != "architecture.md"]
BLOCK = re.compile(
    r"(?:^<!-- not run here: ([^\n]+) -->\n)?^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = (
    *("start.md", "your-data.md", "choosing.md", "networks.md", "api.md"),
    *("algorithms/privacy.md", "algorithms/adapters.md"),
)
"""Pages with blocks that are run, from the first to the last, in one folder each."""
PROGRAMS = {"gossip-node": node_cli.app, "gossip-scenario": scenario_cli.app}
ABSENT = {"--install-completion", "--show-completion"}


class Page(Shell):
    """Runs what comes one after the other in this process; nodes that learn at once are processes of their own."""

    def run(self, line: str) -> str:
        loop = LOOP.fullmatch(line)
        if loop is not None and loop[3] == "&":
            return super().run(line)
        numbers, command, file = (loop[1], loop[2], loop[4]) if loop else ("0", line, None)
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            for number in numbers.split():
                self._call(command.replace("$i", number))
        if file is not None:
            Path(file).write_text(written.getvalue())
        return written.getvalue()

    def _call(self, command: str) -> None:
        program, *argv = shlex.split(re.sub(r"127\.0\.0\.1:(\d+)", self._free_one, command))
        if program == "gossip-scenario" and argv[0] == "run":
            argv += ["--quiet", "--set", f"stop.rounds={self._rounds}"]
        assert {"gossip-scenario": scenario_cli.call, "gossip-node": node_cli.run}[program](argv) == 0, (
            command
        )


class Block(NamedTuple):
    """A block of code: why it is not run ("" where it is), its language, its text."""

    reason: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    return [Block(*each) for each in BLOCK.findall(path.read_text(encoding="utf-8"))]


def all_blocks() -> Iterator[tuple[Path, Block]]:
    for path in OWN:
        for block in blocks(path):
            yield path, block


def named(path: Path) -> str:
    return path.relative_to(ROOT / "docs").as_posix()


def parsed(words: list[str]) -> None:
    """Have the program's own parser read a command line, and nothing be done."""
    program, *argv = words
    command: Any = typer.main.get_command(PROGRAMS[program])
    context = command.make_context(program, list(argv), resilient_parsing=True)
    name, inner, rest = (
        command.resolve_command(context, context._protected_args + context.args)
        if (context._protected_args or context.args)
        else (None, command, argv)
    )
    known = {option for each in (inner if name else command).params for option in each.opts}
    given = {word.partition("=")[0] for word in (rest if name else argv) if word.startswith("-")}
    assert given <= known | {"--help"}, f"{shlex.join(words)}: {given - known}"


def commands_in(text: str) -> list[list[str]]:
    """Return the commands of our programs in a shell's lines."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;|\bdo\b|\bdone\b|\||> \S+|&", line):
            words = shlex.split(part.replace("$i", "0"), comments=True)
            while words and (words[0] == "sudo" or words[0].startswith("-")):
                words = words[3:] if words[0] == "sudo" else words[1:]
            if words and Path(words[0]).name in PROGRAMS:
                found.append([Path(words[0]).name, *words[1:]])
    return found


def test_each_block_is_run_or_says_why_not() -> None:
    found = list(all_blocks())
    assert len(found) > 40
    for path, (reason, language, _) in found:
        assert reason or language in ("toml", "text") or named(path) in RUN, (
            f"{named(path)}: who runs its blocks?"
        )
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(BLOCK.findall(text)), path


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_does_can_be_done(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shell = Page(tmp_path, rounds=2)
    for reason, language, text in blocks(ROOT / "docs" / page):
        if reason or language == "text":
            continue
        if language == "toml":
            written = re.match(r"# (\S+\.toml)", text)
            if written:
                Path(written[1]).write_text(text)
        elif language == "python":
            exec(compile(text, page, "exec"), {"__name__": "page"})
        else:
            assert language == "sh"
            for line in text.splitlines():
                shell.run(line)


def test_command_lines_that_are_not_run_are_those_of_the_programs() -> None:
    count = 0
    for _, block in all_blocks():
        if block.language == "sh":
            for words in commands_in(block.text):
                if not ABSENT & set(words):
                    parsed(words)
                    count += 1
    assert count > 15


def test_a_command_line_that_is_wrong_would_be_found() -> None:
    with pytest.raises(AssertionError, match="--hoem"):
        parsed(["gossip-node", "init", "--hoem", "x"])
    with pytest.raises(AssertionError, match="--pears"):
        parsed(["gossip-node", "--pears", "x"])


def test_settings_that_are_shown_are_settings(tmp_path: Path) -> None:
    for path, block in all_blocks():
        if block.language == "toml":
            file = tmp_path / "shown.toml"
            file.write_text(block.text)
            if "scenario" in tomllib.loads(block.text):
                scenario.load(file)
            else:
                load_task(file)
            assert path


def strings_in(value: Any) -> Iterator[list[str]]:
    """Yield each list of strings of a document."""
    if isinstance(value, dict):
        for each in value.values():
            yield from strings_in(each)
    elif isinstance(value, list):
        if value and all(isinstance(each, str) for each in value):
            yield value
        for each in value:
            yield from strings_in(each)


def test_containers_start_nodes_with_options_that_there_are() -> None:
    count = 0
    for _, block in all_blocks():
        if block.language != "yaml":
            continue
        for document in yaml.safe_load_all(block.text):
            for words in strings_in(document):
                if words[0] == "--peers":
                    parsed(["gossip-node", *words])
                    count += 1
                elif words[:2] == ["sh", "-c"]:
                    for command in commands_in(words[2]):
                        parsed(command)
                        count += 1
    assert count == 6  # four of compose, each with what they share; two of the stateful set


def test_the_image_is_built_by_instructions_that_there_are() -> None:
    (text,) = [block.text for _, block in all_blocks() if block.language == "dockerfile"]
    lines = [line for line in text.replace("\\\n", "").splitlines() if line]
    known = {"FROM", "RUN", "USER", "WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    said = dict(line.split(" ", 1) for line in lines)
    assert said.keys() <= known
    parsed([*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])])


UNIT = {
    "Unit": {"Description", "Wants", "After"},
    "Service": {
        "User", "StateDirectory", "ExecStart", "ExecReload", "KillSignal", "TimeoutStopSec", "Restart", "RestartSec",
        "RestartPreventExitStatus", "Environment", "Nice", "MemoryMax", "NoNewPrivileges", "ProtectSystem",
        "ProtectHome", "PrivateTmp", "PrivateDevices", "ReadOnlyPaths", "CapabilityBoundingSet", "LockPersonality",
        "RestrictAddressFamilies",
    },
    "Install": {"WantedBy"},
}  # fmt: skip
"""Keys of systemd.unit, systemd.service, systemd.exec and systemd.resource-control."""


def test_the_unit_starts_a_node_and_prevents_only_restarts_that_are_of_no_use() -> None:
    texts = [block.text for _, block in all_blocks() if block.language == "ini"]
    (text,) = [text for text in texts if "[Service]" in text]
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(text)
    assert {name: set(unit[name]) for name in unit.sections()} == UNIT
    parsed(commands_in(unit["Service"]["ExecStart"])[0])
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    mended = re.findall(r"^\| (\d+) \|[^|]*\| after ", table, re.MULTILINE)
    assert unit["Service"]["RestartPreventExitStatus"].split() == mended


def test_metrics_that_are_watched_are_served() -> None:
    # Names that are put together of parts stand whole in the node's own table.
    table = (ROOT / "gossip" / "node" / "README.md").read_text(encoding="utf-8")
    served = Path(prometheus.__file__).read_text(encoding="utf-8") + table
    watched = {
        name
        for path in OWN
        for name in re.findall(r"\b(gossip_[a-z_]+[a-z])\b", path.read_text(encoding="utf-8"))
    }
    assert len(watched) > 4
    for name in watched - {"gossip_steps"}:  # a setting
        assert name.removesuffix("_total") in served, name


def test_what_pages_ask_of_the_code_it_can_say() -> None:
    asked = [each for path in OWN for each in told_settings.asked_in(path.read_text(encoding="utf-8"))]
    assert len(asked) > 15
    for what, name in asked:
        said = told_settings.filled(f"<!-- {what}: {name} -->")
        assert said.count("\n") > 2, name
    local = told_settings.settings("gossip.learning.settings:LocalSettings")
    assert re.search(r"^\| `lr` \| `[\d.]+` \| > 0 \|", local, re.MULTILINE)
    assert "sam_rho = 0.2" in told_settings.preset("dfedsam-mgs")


def test_every_section_of_a_task_has_its_settings_on_one_page() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## `\[([\w.]+)\]`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    sections = {
        name: default
        for name, field in TaskSettings.model_fields.items()
        if isinstance(default := field.get_default(call_default_factory=True), Settings)
    }
    assert len(sections) > 15
    for name, default in sections.items():
        said = told_settings.filled(parts[name])
        for key in type(default).model_fields:
            assert f"| `{key}` |" in said, f"[{name}] {key}"


def test_a_table_may_have_some_keys_of_a_class_and_no_others() -> None:
    asked = "gossip.learning.settings:LocalSettings"
    said = told_settings.settings(f"{asked}(steps_max,deadline_s)")
    assert re.findall(r"^\| `(\w+)`", said, re.MULTILINE) == ["steps_max", "deadline_s"]
    with pytest.raises(LookupError):
        told_settings.settings(f"{asked}(steps_most)")


def test_every_page_is_in_the_sites_contents_and_every_link_leads_somewhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    contents = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    assert contents == {named(path) for path in PAGES} | set(pages.INCLUDED.values()) - {"readme.md"}
    for path in PAGES:
        uri = named(path)
        made = pages.rewritten(path.read_text(encoding="utf-8"), source=f"docs/{uri}", uri=uri)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", made):
            led = os.path.normpath(os.path.join(os.path.dirname(uri), target))
            assert led in contents | {"readme.md"}, f"{uri} leads to {target}"
    for source, uri in pages.INCLUDED.items():
        pages.rewritten((ROOT / source).read_text(encoding="utf-8"), source=source, uri=uri)
