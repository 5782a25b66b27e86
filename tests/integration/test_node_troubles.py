"""A full disk, a closed terminal, signals at bad moments: they end no learning and show no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from gossip.storage.run_record import read_lines
from tests.integration.homes import PATIENCE_S, Running, all_ended, eventually, forked, make_homes

ALONE = ("--set", "topology.kind=full", "--set", "local.epochs=1")
FILE_BYTES_MAX = 4096
"""Less than a checkpoint and more than an identity: a stand-in for a full disk."""


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def alone(
    folder: Path,
    *arguments: str,
    prelude: str = "",
    closed: Sequence[int] = (),
    stdout: Path | None = None,
    stderr: Path | None = None,
) -> Done:
    """Run a peer that is alone in its file; `prelude` is Python to execute first."""
    peers = folder / "peers.txt"
    if not peers.exists():
        make_homes(folder, ("alice",))
    orders = json.dumps({"closed": closed, "prelude": prelude})
    argv = [orders, "--peers", str(peers), "--home", str(folder / "alice"), *ALONE, *arguments]
    log, printed = stderr or folder / "alice.log", stdout or folder / "alice.out"
    node = forked("alice", argv, log, stdout=printed, program="tests.integration.bare_node")
    code = node.wait()
    return Done(code, *(each.read_text() if each.is_file() else "" for each in (printed, log)))


def test_closed_standard_streams_end_no_learning(tmp_path):
    peers = make_homes(tmp_path, ("alice",))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gossip.cli",
            "--peers",
            peers,
            "--home",
            tmp_path / "alice",
            *ALONE,
            "--rounds=2",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        close_fds=True,
        preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)],
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0
    assert read_lines(tmp_path / "alice" / "metrics.jsonl")[-1]["round"] == 2


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_standard_output_or_error_ends_no_learning(tmp_path, closed):
    done = alone(tmp_path, "--rounds", "2", closed=(closed,))
    assert done.code == 0, done.stderr
    assert read_lines(tmp_path / "alice" / "metrics.jsonl")[-1]["round"] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_standard_output_ends_no_learning(tmp_path):
    done = alone(tmp_path, "--rounds", "2", stdout=Path("/dev/full"))
    assert (done.code, "Traceback" in done.stderr) == (0, False), done.stderr


@contextmanager
def full_pipe(path: Path) -> Iterator[Path]:
    """Make a pipe that is full, and that nobody reads."""
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(end, b"x" * 4096)
        yield path
    finally:
        os.close(end)


WARNING = """
import gossip.learner, warnings
train = gossip.learner.Learner.train
gossip.learner.Learner.train = lambda *given, **more: (warnings.warn("!"), train(*given, **more))[1]
"""


def test_a_standard_error_that_nobody_reads_holds_neither_learning_nor_leaving(tmp_path):
    """The log, a warning in the midst of a training, the last sentence: each would wait for the reader for ever."""
    with full_pipe(tmp_path / "pipe") as pipe:
        learnt = alone(tmp_path, "--rounds", "2", prelude=WARNING, stderr=pipe)
        refused = alone(tmp_path, "--rounds", "no", stderr=pipe)
    assert (learnt.code, refused.code) == (0, 2)
    assert read_lines(tmp_path / "alice" / "metrics.jsonl")[-1]["round"] == 2


def test_a_full_disk_ends_no_learning_is_told_leaves_nothing_behind_and_can_be_made_good(tmp_path):
    prelude = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({FILE_BYTES_MAX}, {FILE_BYTES_MAX}))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    full = alone(tmp_path, "--rounds", "3", prelude=prelude)
    assert (full.code, "Traceback" in full.stderr) == (2, False), full.stderr
    assert "the model could not be written" in full.stderr.splitlines()[-1]
    assert full.stderr.count("checkpoint of round 0 not written: File too large; the newest on the disk") == 1
    assert "checkpoint of round 3 not written" in full.stderr, "all rounds were learnt"
    assert full.stdout == "", "no round is told that is not on the disk"
    assert list((tmp_path / "alice").rglob(".*.tmp")) == []
    again = alone(tmp_path, "--rounds", "3")
    assert again.code == 0, again.stderr
    assert (tmp_path / "alice" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_a_signal_while_the_data_are_loaded_does_what_it_does_later(tmp_path, name):
    (tmp_path / "data.py").write_text(
        "import os, signal\n"
        "import numpy as np\n\n\n"
        "def make():\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    x, y = np.zeros((20, 3), np.float32), np.arange(20) % 2\n"
        "    return x, y, x, y\n"
    )
    source = f"data.source='python:{tmp_path / 'data.py'}:make'"
    make_homes(tmp_path, ("alice",))
    node = Running(tmp_path, "alice", *ALONE, "--rounds", "1000000", "--set", source, bare=True)
    with all_ended([node]):
        if name == "SIGHUP":
            eventually(lambda: "peers.txt read again" in node.said(), "the peers file is read again")
            node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(PATIENCE_S) == 130
        assert "Traceback" not in node.said()


def test_a_second_interrupt_leaves_at_once_though_a_neighbour_takes_nothing(tmp_path):
    make_homes(tmp_path, ("alice", "bob"))
    task = ("--rounds", "100000", "--set", "local.epochs=1", "--set", "net.close_timeout_s=3.0")
    nodes = [Running(tmp_path, name, *task) for name in ("alice", "bob")]
    with all_ended(nodes):
        alice, bob = nodes
        eventually(lambda: alice.round() >= 1, "alice learns")
        bob.process.send_signal(signal.SIGSTOP)
        alice.process.send_signal(signal.SIGINT)
        eventually(lambda: "saving and leaving" in alice.said(), "alice heard the first signal")
        assert alice.signal(signal.SIGINT) == 130
        assert "Traceback" not in alice.said()


def test_a_users_network_that_fails_in_the_middle_is_one_sentence(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(64, classes)\n\n"
        "    def forward(self, x):\n"
        "        if len(x) == 16:\n"
        "            raise ValueError('not sixteen')\n"
        "        return self.layer(x.flatten(1))\n\n\n"
        "def make(input_shape, classes):\n"
        "    return Net(classes)\n"
    )
    name = f"python:{tmp_path / 'net.py'}:make"
    done = alone(tmp_path, "--rounds", "2", "--set", f"model.name='{name}'")
    assert (done.code, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"[model] name = '{name}' fails on samples of shape (16, 1, 8, 8)" in done.stderr
    assert "ValueError: not sixteen" in done.stderr
