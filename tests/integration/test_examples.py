"""Each example does what its README says: its commands as they stand, in a copy of its folder."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from gossip.config import load_task
from scenarios import scenario
from tests.integration.homes import Forked, forked, free_ports

EXAMPLES = Path(__file__).parents[2] / "examples"
SCORES = {
    "csv": "AUC",
    "images": "accuracy",
    "regression": "R²",
    "timeseries": "R²",
    "text": "perplexity",
    "backbone": "accuracy",
    "finetune-transformer": "accuracy",
}
"""What `evaluate` must tell of each."""
NEEDS = {"finetune-transformer": ("transformers", "peft")}
"""What is not installed with the tests: such an example is tried where it is there."""
WHOLE = "csv"
"""Run to its end; of the others' rounds a few show that the commands fit."""
FEW = 2
PROGRAMS = {
    "gossip-node": "gossip.cli",
    "gossip-scenario": "tests.integration.forked_engine",
    "python": "tests.integration.forked_python",
}
LOOP = re.compile(r"for i in ([\d ]+); do (.+?) ?([;&]) done(?:; wait)?(?: > (\S+))?")
MADE = shutil.ignore_patterns("data", "home-*", "peers.txt", "runs", "__pycache__")


class Shell:
    """As much of a shell as the pages need: one command a line, or a loop of them, one after the other or at once."""

    def __init__(self, logs: Path, *, rounds: int | None) -> None:
        self._logs = logs
        self._rounds = rounds
        self._free = free_ports(3)
        self._ports: dict[str, int] = {}
        self._count = 0

    def run(self, line: str) -> str:
        """Run a line in the working folder and return what it writes to standard output, and then its log."""
        loop = LOOP.fullmatch(line)
        numbers, command, separator, file = loop.groups() if loop else ("0", line, ";", None)
        commands = [command.replace("$i", number) for number in numbers.split()]
        if separator == "&":
            told = [self._ended(*each) for each in [self._start(command) for command in commands]]
        else:
            told = [self._ended(*self._start(command)) for command in commands]
        written = "".join(out for out, _ in told)
        if file is not None:
            Path(file).write_text(written)
        return written + "".join(log for _, log in told)

    def _start(self, command: str) -> tuple[str, Forked, Path]:
        program, *argv = shlex.split(re.sub(r"127\.0\.0\.1:(\d+)", self._free_one, command))
        if self._rounds is not None and program == "gossip-node" and argv[0].startswith("--"):
            argv += ["--rounds", str(self._rounds)]
        elif self._rounds is not None and program == "gossip-scenario":
            argv += ["--set", f"stop.rounds={self._rounds}"]
        self._count += 1
        files = self._logs / str(self._count)
        process = forked(
            str(self._count),
            argv,
            files.with_suffix(".log"),
            stdout=files.with_suffix(".out"),
            program=PROGRAMS[program],
        )
        return command, process, files

    def _ended(self, command: str, process: Forked, files: Path) -> tuple[str, str]:
        code = process.wait()
        out, log = (files.with_suffix(suffix).read_text() for suffix in (".out", ".log"))
        assert code == 0, f"{command}\n{out}{log}"
        return out, log

    def _free_one(self, address: re.Match[str]) -> str:
        if address[1] not in self._ports:
            self._ports[address[1]] = self._free.pop()
        return f"127.0.0.1:{self._ports[address[1]]}"


def lines_of(name: str) -> list[str]:
    """Return the commands of an example's page."""
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    return "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()


@pytest.mark.parametrize("name", SCORES)
def test_the_commands_of_the_page_lead_from_data_to_a_model_in_use(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(name, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the example needs {package}")
    shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=MADE)
    monkeypatch.setenv(
        "PYTHONPATH", str(EXAMPLES.parent)
    )  # else the commands' own programs lie where this began
    monkeypatch.chdir(tmp_path / name)
    shell = Shell(tmp_path, rounds=None if name == WHOLE else FEW)
    told = {line: shell.run(line) for line in lines_of(name)}
    learnt = next(text for line, text in told.items() if "gossip-node --peers" in line)
    assert learnt.count("done: the model is in ") == 3
    assert "WARNING" not in learnt
    score = next(text for line, text in told.items() if line.startswith("gossip-node evaluate"))
    value = re.search(rf"│ {SCORES[name]} +│ ([\d.-]+)", score)
    assert value is not None, score
    if name == WHOLE:
        page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert float(value[1]) == pytest.approx(float(re.search(r"AUC (0\.\d+)", page)[1]), abs=0.01)


@pytest.mark.parametrize("name", [name for name in SCORES if (EXAMPLES / name / "scenario.toml").exists()])
def test_what_is_simulated_is_what_the_nodes_do_but_for_data_and_neighbours(name: str) -> None:
    nodes = load_task(EXAMPLES / name / "task.toml", agreeing=True).agreement()
    peers = scenario.load(EXAMPLES / name / "scenario.toml").task().agreement()
    differing = {key for key in {*nodes, *peers} if nodes.get(key) != peers.get(key)}
    assert {key.partition(".")[0] for key in differing} <= {"data", "topology"}


def test_no_two_examples_meet_on_a_port() -> None:
    ports = [re.search(r"127\.0\.0\.1:(\d+)\$i", "\n".join(lines_of(name)))[1] for name in SCORES]
    assert len(set(ports)) == len(SCORES)
    assert all(int(port + "9") < 32768 for port in ports)
