"""How long does `gossip-node status` take while three nodes learn a large model, and what holds their event loops?

    python tools/bench/stalls.py [--parameters 25] [--layers 2] [--algorithm dfedavg] [--asks 100] [--seconds 60]
        [--steps 3] [--profile] [--smoke]

Three real nodes over TLS on this machine, one torch thread each, tiny shards; rounds are done until all has been asked.
Printed are median, 99th percentile and longest of the answers, over all three.

With `--profile` each node watches itself, and the longest of what it saw is printed, by place:

    step     a step of a trio task took longer than 50 ms: the task, and where it stood before
    lock     a thread that only sleeps, 5 ms at a time, came back more than 50 ms late: where the others stood then

Of each are told the milliseconds; how many of them that thread waited for a core although it could have run; and how
many it computed. What is left it waited for the interpreter lock (or its holder for a core), for the process's memory
map, or for a host that had given the core of a virtual machine to another. Watching costs a few ms itself. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import trio
from nodes import Nodes, count_parameters, hidden_widths

from gossip.errors import NetworkError
from gossip.node.status import ask_status
from scenarios.processes.launcher import Launcher

LONG_S = 0.05
SLEEP_S = 0.005
FRAMES, ROWS = 6, 10
ROUNDS = 1_000_000
"""More than are ever done."""
BEGIN_S_MAX = 120.0


# --- in the node ---


@dataclass
class Span:
    """What becomes of a thread's time from now on."""

    began_s: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=time.thread_time)
    core_s: float = 0.0

    def __post_init__(self) -> None:
        self.core_s = waited_for_core_s()

    def tell(self, kind: str, where: Callable[[], str], *, asleep_s: float = 0.0) -> None:
        """Write a line for `show` if it was long."""
        took_s = time.perf_counter() - self.began_s - asleep_s
        if took_s > LONG_S:
            parts = [took_s, waited_for_core_s() - self.core_s, time.thread_time() - self.cpu_s]
            line = json.dumps([kind, where(), *(round(1e3 * part) for part in parts)])
            sys.stderr.write(f"STALL {line}\n")


def waited_for_core_s() -> float:
    """Return how long this thread has been able to run and had no core."""
    text = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text(encoding="ascii")
    return int(text.split()[1]) / 1e9


def places(frame: FrameType | None) -> str:
    """Return where a stack stands, innermost first."""
    told = [
        f"{'/'.join(Path(each.f_code.co_filename).parts[-2:])}:{line} {each.f_code.co_name}"
        for each, line in traceback.walk_stack(frame)
    ]
    return " < ".join(told[:FRAMES])


def innermost(task: trio.lowlevel.Task) -> str:
    """Return where a task waits."""
    coroutine: Any = task.coro
    while getattr(coroutine, "cr_await", None) is not None and hasattr(coroutine.cr_await, "cr_frame"):
        coroutine = coroutine.cr_await
    return f"{task.name}: {places(getattr(coroutine, 'cr_frame', None))}"


class Steps(trio.abc.Instrument):
    """Tells of long steps of tasks."""

    def __init__(self) -> None:
        # It begins in the midst of a step.
        self._where, self._span = "the first step", Span()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note the time, and where it stands."""
        self._where = innermost(task)
        self._span = Span()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Tell if it took long."""
        self._span.tell("step", lambda: self._where)


def watch() -> None:
    """Sleep, and tell what the others did when sleeping took long."""
    me = threading.get_ident()

    def others() -> str:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = {each: frame for each, frame in sys._current_frames().items() if each != me}
        return "\n          ".join(f"[{names.get(each)}] {places(frame)}" for each, frame in stacks.items())

    while True:
        span = Span()
        time.sleep(SLEEP_S)
        span.tell("lock", others, asleep_s=SLEEP_S)


def node(argv: list[str]) -> None:
    """Be a node that watches itself."""
    from gossip import cli
    from gossip.node.node import Node

    live = Node._live

    async def watched(self: Node) -> None:
        trio.lowlevel.add_instrument(Steps())
        threading.Thread(target=watch, name="watch", daemon=True).start()
        await live(self)

    Node._live = watched  # type: ignore[method-assign]
    sys.argv[1:] = argv
    cli.main()


# --- outside ---


def ask(homes: Sequence[Path], asks: int, seconds: float) -> list[float]:
    """Return how long each answer took."""
    took_s: list[float] = []
    for number in range(asks):
        begin_s = time.monotonic()
        ask_status(homes[number % len(homes)])
        took_s.append(time.monotonic() - begin_s)
        time.sleep(max(0.0, seconds / asks - took_s[-1]))
    return took_s


def learning(home: Path) -> bool:
    """Whether a node there has done a round."""
    try:
        return bool(ask_status(home)["round"])
    except NetworkError:
        return False


def show(logs: Sequence[Path]) -> None:
    """Print what the nodes saw of themselves, first those that waited longest for something else than a core."""
    found: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for log in logs:
        for line in re.findall(r"^STALL (.*)$", log.read_text(encoding="utf-8"), flags=re.MULTILINE):
            kind, where, took_ms, core_ms, cpu_ms = json.loads(line)
            found[kind, where].append((took_ms - core_ms, core_ms, cpu_ms))
    for wanted in ("step", "lock"):
        rows = [(max(seen), len(seen), where) for (kind, where), seen in found.items() if kind == wanted]
        for (rest_ms, core_ms, cpu_ms), times, where in sorted(rows, reverse=True)[:ROWS]:
            print(f"{wanted} {rest_ms + core_ms} ms, for a core {core_ms}, computing {cpu_ms}, {times} x")
            print(f"          {where}")


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, `started` starts the nodes."""
    if arguments[:1] == ["--node"]:
        node(list(arguments[1:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=float, default=25, help="millions")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--algorithm", default="dfedavg")
    parser.add_argument("--asks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a small model, three answers")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.parameters, given.asks, given.seconds = 0.001, 3, 0.1
    hidden = hidden_widths(int(given.parameters * 1e6), given.layers)
    settings = {"model.hidden": hidden, "local.steps": given.steps, "stop.rounds": ROUNDS}
    watched = {"program": "stalls", "before": ["--node"]} if given.profile else {}
    with tempfile.TemporaryDirectory(prefix="gossip-stalls-") as folder:
        with Nodes(Path(folder), given.algorithm, settings, started=started, **watched) as nodes:
            deadline_s = time.monotonic() + BEGIN_S_MAX
            while not all(map(learning, nodes.homes)):
                if time.monotonic() > deadline_s or len(nodes.running(0.2)) < len(nodes.homes):
                    raise SystemExit("\n".join(log.read_text()[-2000:] for log in nodes.logs))
            took_s = sorted(ask(nodes.homes, given.asks, given.seconds))
            rounds = [ask_status(home)["round"] for home in nodes.homes]
        if given.profile:
            show(nodes.logs)
    print(
        f"{count_parameters(hidden):,} parameters, {given.algorithm}, rounds {rounds}: {len(took_s)} answers, median "
        f"{1e3 * took_s[len(took_s) // 2]:.0f} ms, p99 {1e3 * took_s[int(0.99 * (len(took_s) - 1))]:.0f} ms, "
        f"longest {1e3 * took_s[-1]:.0f} ms; load {os.getloadavg()[0]:.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
