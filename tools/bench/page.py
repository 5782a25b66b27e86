"""What a node's page costs its learning: the pace without viewers, and with many that read and one that never does.

    python tools/bench/page.py [--viewers 200] [--seconds 5] [--repetitions 15] [--smoke]

Three nodes learn; the first has `--page`. Spans without and with viewers take turns, so that what else the machine does
is in both. Told are the rounds in a second, and the processor time that the node takes for a round: the viewers here
take some of the machine's, too, which is no cost of the page, so the second is what it must be judged by. A span with
viewers is held against the mean of the one before and the one after it. Machines that others share differ by a tenth
from one span to the next, so the quartiles of the pairs are told beside their median; and, of the page's thread, the
processor time that is its own, which no neighbour changes much.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from nodes import Nodes, free_ports

from gossip.errors import NetworkError
from gossip.node.status import ask_status
from gossip.page.serving import THREAD

BOUND = 0.05
"""Of a node's pace, for 200 viewers."""

READ_BYTES = 1 << 18
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Span:
    """So much time, with or without viewers."""

    rounds: int
    seconds: float
    processor_s: float
    """Of the node's process."""
    page_s: float
    """Of its page's thread alone."""
    events: int
    """Documents that all viewers together were sent."""

    @property
    def cost_s(self) -> float:
        """Processor time for a round."""
        return self.processor_s / max(1, self.rounds)


class Viewers:
    """Many that read all they are sent, and one that never does."""

    def __init__(self, port: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._all = [_looking(port) for _ in range(count)]
        self._silent = _looking(port, reads=False)
        self.events = 0
        for each in self._all:
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)

    def look(self, seconds: float) -> None:
        """Read for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                read = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
                assert read, "a viewer that reads was dropped"
                self.events += read.count(b"event: document")

    def close(self) -> None:
        """Look away."""
        self._selector.close()
        for each in (*self._all, self._silent):
            each.close()


def _looking(port: int, *, reads: bool = True) -> socket.socket:
    made = socket.socket()
    if not reads:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return made


def processor_s(pid: int) -> float:
    """Return the processor time of a process and all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ


def page_s(pid: int) -> float:
    """Return the processor time of the thread that serves the page, in seconds; NaN where it has no such name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if (task / "comm").read_text().strip() == THREAD:
                return int((task / "schedstat").read_text().split()[0]) / 1e9
    return math.nan


def span(home: Path, pid: int, seconds: float, viewers: Viewers | None) -> Span:
    """Measure so many seconds."""
    began_s, before, used_s, own_s = time.monotonic(), _round(home), processor_s(pid), page_s(pid)
    seen = 0 if viewers is None else viewers.events
    if viewers is None:
        time.sleep(seconds)
    else:
        viewers.look(seconds)
    events = 0 if viewers is None else viewers.events - seen
    rounds, seconds = _round(home) - before, time.monotonic() - began_s
    return Span(rounds, seconds, processor_s(pid) - used_s, page_s(pid) - own_s, events)


def _round(home: Path) -> int:
    return int(ask_status(home)["round_in_progress"])


@contextlib.contextmanager
def running(parameters_hidden: int) -> Iterator[tuple[Path, int, int]]:
    """Start three nodes and give the first one's home, process and page's port."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        settings = {"model.hidden": [parameters_hidden], "stop.rounds": 1_000_000, "local.epochs": 10}
        with Nodes(Path(folder), "d-psgd", settings, first=("--page", str(port))) as nodes:
            home, until_s = nodes.homes[0], time.monotonic() + PATIENCE_S
            while time.monotonic() < until_s:
                with contextlib.suppress(NetworkError):
                    if _round(home) > 3:
                        break
                time.sleep(0.5)
            yield home, dict(nodes.running(0.1))[home], port


def main(arguments: Sequence[str]) -> int:
    """Print what viewers cost a node; return 1 where it is more than is promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="the smallest form")
    asked = parser.parse_args(arguments)
    if asked.smoke:
        asked.viewers, asked.seconds, asked.repetitions = 20, 1.0, 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * asked.viewers + 200)), hard))
    alone: list[Span] = []
    watched: list[Span] = []
    with running(256) as (home, pid, port):
        for _ in range(asked.repetitions):
            alone.append(span(home, pid, asked.seconds, None))
            viewers = Viewers(port, asked.viewers)
            viewers.look(0.5 if asked.smoke else 3.0)  # connecting is not looking
            watched.append(span(home, pid, asked.seconds, viewers))
            viewers.close()
            time.sleep(1.0)
        alone.append(span(home, pid, asked.seconds, None))
    pace = [statistics.median(each.rounds / each.seconds for each in found) for found in (alone, watched)]
    cost = [statistics.median(each.cost_s for each in found) for found in (alone, watched)]
    share = statistics.median(each.processor_s / each.seconds for each in alone)
    pairs = [
        2 * each.cost_s / (before.cost_s + after.cost_s) - 1
        for each, (before, after) in zip(watched, pairwise(alone), strict=True)
    ]
    low, lost, high = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else 3 * pairs
    own = statistics.median(each.page_s / max(0.01, each.processor_s) for each in watched)
    seen = statistics.mean(each.events / asked.viewers / each.seconds for each in watched)
    told = {
        "viewers": asked.viewers,
        "rounds_per_second": [round(each, 2) for each in pace],
        "processor_seconds_per_round": [round(each, 5) for each in cost],
        "processors_busy": round(share, 3),
        "documents_per_second": round(seen, 2),
        "cost": round(lost, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "thread": round(own, 4),
    }
    print(json.dumps(told))
    print(
        f"{asked.viewers} viewers and one that never reads cost {100 * lost:.1f} % (bound {100 * BOUND:.0f} %; "
        f"half of the pairs between {100 * low:.1f} and {100 * high:.1f} %); the page's thread has {100 * own:.1f} % "
        "of the node's processor time"
    )
    return 0 if asked.smoke or lost < BOUND else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
