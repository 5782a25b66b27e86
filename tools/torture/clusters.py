"""A sweep on other machines, some of which die: is every run there, and is it the same run?

    python tools/torture/clusters.py [--only local|slurm|ray] [--runs 16] [--rounds 40] [--json] [--smoke]

Each row is a sweep by the command line in a process of its own. Slurm is played by `slurm_stub.py`, two tasks at once;
Ray is a head and a second node on this machine (Ray puts its address in the place of the loopback's), each with room
for one run. While the first runs are being done a worker is killed with SIGKILL. Digests are those of all peers' models
at the end, compared with an undisturbed sweep by local processes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from slurm_stub import install, running
from verdicts import Row, Verdicts

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
START_S, SWEEP_S, ENDING_S = 300.0, 1500.0, 90.0
PORTS = 20_001
"""From here on Ray's head listens."""

Kill = Callable[[], str | None]
"""Kill a worker that does a run; return what was killed, or None where none does yet."""


class Sweep:
    """One call of the command line."""

    def __init__(
        self, out: Path, cluster: list[str], *, runs: int, rounds: int, path: str | None = None
    ) -> None:
        self.out = out
        self._command = [
            sys.executable, "-m", "scenarios.cli", "sweep", "quickstart", "--set", "local.lr=0.05,0.1",
            "--set", f"stop.rounds={rounds}", "--seeds", f"0-{runs // 2 - 1}", "--out", str(out), *cluster,
        ]  # fmt: skip
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **({"PATH": path} if path else {})}

    def start(self) -> subprocess.Popen[str]:
        """Begin it, in a session of its own."""
        return subprocess.Popen(
            self._command,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def digests(self) -> dict[str, str]:
        """Return folder -> digest of the models of each finished run."""
        found = {}
        for path in sorted(self.out.rglob("summary.json")):
            if ".arriving" not in str(path):
                found[str(path.parent.relative_to(self.out))] = json.loads(path.read_text())["model_digest"]
        return found


def eventually(look: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; return whether it came to be."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if look():
            return True
        time.sleep(0.1)
    return False


def tried(name: str, sweep: Sweep, expected: Mapping[str, str], kill: Kill | None) -> Row:
    """Do a sweep to its end, with a worker killed on the way, and then once more."""
    began = time.monotonic()
    process = sweep.start()
    killed: list[str] = []

    def look() -> bool:
        if kill is not None and not killed and (found := kill()) is not None:
            killed.append(found)
        return process.poll() is not None

    broken = [] if eventually(look, SWEEP_S) else [f"not at the end after {SWEEP_S:g} s"]
    if broken:
        process.kill()
    _, said = process.communicate()
    took = time.monotonic() - began
    found = sweep.digests()
    if kill is not None and not killed:
        broken.append("no worker could be killed")
    if process.returncode:
        broken.append(f"exit code {process.returncode}: {said.strip().splitlines()[-1:]}")
    if expected and found != expected:
        broken.append(f"{sum(found.get(run) == digest for run, digest in expected.items())} runs as expected")
    again = sweep.start()
    _, told = again.communicate(timeout=SWEEP_S)
    if again.returncode or told.strip():
        broken.append("finished runs were done again")
    figures = {
        "runs": str(len(found)),
        "killed": ", ".join(killed) or "nothing",
        "same digests": str(sum(found[run] == expected.get(run, found[run]) for run in found)),
        "seconds": f"{took:.0f}",
    }
    return Row(name, figures, broken)


def interrupted(name: str, sweep: Sweep, busy: Callable[[], set[int]]) -> Row:
    """Interrupt a sweep whose workers are `busy`, and look that nothing runs on."""
    process = sweep.start()
    eventually(lambda: bool(busy()) or process.poll() is not None, START_S)
    at_work = busy()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    broken = [] if at_work else ["no worker was seen at work"]
    try:
        process.communicate(timeout=ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        broken.append(f"not at the end {ENDING_S:g} s after Ctrl-C")
    if process.returncode != 130:
        broken.append(f"exit code {process.returncode} and not 130")
    if not eventually(lambda: not busy(), ENDING_S):
        broken.append("workers run on")
    return Row(f"{name}, Ctrl-C", {"seconds": f"{time.monotonic() - began:.0f}"}, broken)


def children(of: int) -> dict[int, str]:
    """Return the processes below one -> their command lines."""
    parents, commands = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    found: dict[int, str] = {}
    front = {of}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front}
        found.update({pid: commands[pid] for pid in front})
    return found


def local(folder: Path, runs: int, rounds: int) -> Iterator[Row]:
    """Yield rows of processes of this machine; the first is the sweep that all others are compared with."""
    calm = Sweep(folder / "calm", [], runs=runs, rounds=rounds)
    yield tried("local, undisturbed", calm, {}, None)
    sweep = Sweep(folder / "local", ["--jobs", "2"], runs=runs, rounds=rounds)
    yield tried("local, a process killed", sweep, calm.digests(), lambda: _kill_begun(sweep.out))


def _kill_begun(out: Path) -> str | None:
    """Kill the process that holds the lock of a run which has begun."""
    for lock in out.rglob("seed-*/.lock"):
        inode = f":{lock.stat().st_ino} "
        for line in Path("/proc/locks").read_text().splitlines():
            if inode in f"{line} ":
                os.kill(int(line.split()[4]), signal.SIGKILL)
                return "1 process"
    return None


def slurm(folder: Path, runs: int, rounds: int, expected: Mapping[str, str]) -> Iterator[Row]:
    """Yield rows of Slurm's stand-in."""
    if importlib.util.find_spec("submitit") is None:
        print("Slurm is not tried: pip install 'gossip-node[slurm]'", file=sys.stderr)
        return
    path = install(folder / "stub")

    def kill() -> str | None:
        for name, group in running(folder / "stub").items():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
                return f"job {name}"
        return None

    cluster = ["--cluster", "slurm", "--cluster-set", "partition=any"]
    yield tried(
        "Slurm, a job killed",
        Sweep(folder / "slurm", cluster, runs=runs, rounds=rounds, path=path),
        expected,
        kill,
    )
    more = Sweep(folder / "slurm-stopped", cluster, runs=4, rounds=100 * rounds, path=path)
    yield interrupted("Slurm", more, lambda: set(running(folder / "stub").values()))


@contextlib.contextmanager
def ray_cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a head and a second node on this machine; yield the client's address and both processes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    ray = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--num-cpus=1",
        "--disable-usage-stats",
    ]
    ray += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    port = PORTS + os.getpid() % 5000
    head = ["--head", f"--port={port}", f"--ray-client-server-port={port + 1}", "--include-dashboard=false"]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for number, arguments in enumerate((head, [f"--address=127.0.0.1:{port}"])):
            with (folder / f"ray-{number}.log").open("wb") as log:
                nodes.append(
                    subprocess.Popen(
                        [*ray, *arguments], env=env, stdout=log, stderr=log, start_new_session=True
                    )
                )
            if not eventually(
                lambda log=folder / f"ray-{number}.log": "Ray runtime started" in log.read_text(), START_S
            ):
                raise SystemExit(f"Ray has not started: {(folder / f'ray-{number}.log').read_text()[-1000:]}")
        yield f"ray://127.0.0.1:{port + 1}", nodes
    finally:
        for node in reversed(nodes):
            below = children(node.pid)
            node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(20)
            for pid in (node.pid, *below):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait()


def ray(folder: Path, runs: int, rounds: int, expected: Mapping[str, str]) -> Iterator[Row]:
    """Yield rows of a Ray cluster of two nodes, of which the second is killed."""
    if any(importlib.util.find_spec(name) is None for name in ("ray", "grpc")):
        print("Ray is not tried: pip install 'gossip-node[ray]'", file=sys.stderr)
        return
    with ray_cluster(folder) as (address, nodes):

        def busy(node: int = 0) -> set[int]:
            return {
                pid for pid, command in children(nodes[node].pid).items() if command.startswith("ray::work")
            }

        def kill_worker() -> str | None:
            for pid in busy():
                os.kill(pid, signal.SIGKILL)
                return "1 worker"
            return None

        def kill_node() -> str | None:
            if not busy(1):
                return None
            below = children(nodes[1].pid)
            for pid in (nodes[1].pid, *below):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            nodes[1].wait()
            return f"1 node ({len(below)} processes)"

        cluster = ["--cluster", address]
        yield tried(
            "Ray, 2 nodes, a worker killed",
            Sweep(folder / "ray", cluster, runs=runs, rounds=rounds),
            expected,
            kill_worker,
        )
        stopped = Sweep(folder / "ray-stopped", cluster, runs=4, rounds=100 * rounds)
        yield interrupted("Ray", stopped, lambda: busy() | busy(1))
        yield tried(
            "Ray, 2 nodes, a node killed",
            Sweep(folder / "ray-node", cluster, runs=runs, rounds=rounds),
            expected,
            kill_node,
        )


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("local", "slurm", "ray"))
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="4 runs")
    given = parser.parse_args(arguments)
    runs = 4 if given.smoke else given.runs
    verdicts = Verdicts(f"sweeps of {runs} runs")
    with tempfile.TemporaryDirectory(prefix="torture-clusters-") as temporary:
        folder = Path(temporary)
        first = local(folder, runs, given.rounds)
        verdicts.add(next(first))
        expected = Sweep(folder / "calm", [], runs=runs, rounds=given.rounds).digests()
        if given.only in (None, "local"):
            for row in first:
                verdicts.add(row)
        for name, rows in (("slurm", slurm), ("ray", ray)):
            if given.only in (None, name):
                for row in rows(folder, runs, given.rounds, expected):
                    verdicts.add(row)
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
