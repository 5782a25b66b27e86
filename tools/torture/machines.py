"""One run whose real nodes are on several machines, one of which is lost: do the others go on, and do keys stay?

    python tools/torture/machines.py [--only ssh|ray] [--peers 6] [--rounds 60] [--json] [--smoke]

Machines are programs of this one: two hosts that a stand-in of ssh starts, and two nodes of a Ray cluster on its
own address. First a run is left alone and then, in a second one, a host is killed with SIGKILL once rounds are being
done.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clusters import ROOT, SWEEP_S, children, eventually, ray_cluster
from verdicts import Row, Verdicts

SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
exec sh -c "$3"
"""
HOST = "scenarios.machines.host"


def run_on(
    name: str, out: Path, where: Sequence[str], *, path: str, peers: int, rounds: int, kill: bool
) -> Row:
    """Do a run to its end, perhaps with a host killed on the way."""
    command = [
        sys.executable, "-m", "scenarios.cli", "run", "quickstart", "--engine", "processes", "--quiet", "--json",
        "--set", f"scenario.peers={peers}", "--set", f"stop.rounds={rounds}", "--out", str(out), *where,
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    began = time.monotonic()
    with (
        (out.parent / f"{out.name}.json").open("w+") as said,
        (out.parent / f"{out.name}.log").open("w+") as log,
    ):
        process = subprocess.Popen(command, env=env, stdout=said, stderr=log, start_new_session=True)
        killed: list[int] = []

        def look() -> bool:
            if kill and not killed and learning(out):
                killed.append(hosts()[-1])
                os.kill(killed[0], signal.SIGKILL)
            return process.poll() is not None

        broken = [] if eventually(look, SWEEP_S) else [f"not at the end after {SWEEP_S:g} s"]
        if broken:
            process.kill()
        process.wait()
        said.seek(0)
        log.seek(0)
        text, errors = said.read(), log.read()
    if process.returncode:
        return Row(name, {}, [*broken, f"exit code {process.returncode}: {errors.strip().splitlines()[-1:]}"])
    summary = json.loads(text)
    where_of = json.loads((out / "machines.json").read_text())
    shares = [list(where_of.values()).count(machine) for machine in dict.fromkeys(where_of.values())]
    died = summary["faults"]["died"]
    if died not in (shares if kill else [0]):
        broken.append(f"{died} peers died")
    if kill and not killed:
        broken.append("no host was killed")
    if list(out.rglob("identity.pem")):
        broken.append("keys have come here")
    if not (out / "report.html").exists():
        broken.append("no page")
    if not eventually(lambda: not hosts(), 60.0):
        broken.append("a host runs on")
    figures = {
        "peers": "+".join(map(str, shares)),
        "died": str(died),
        "accuracy": f"{summary['accuracy']['mean']:.3f}",
        "MB": f"{summary['bytes']['total'] / 1e6:.1f}",
        "seconds": f"{time.monotonic() - began:.0f}",
    }
    return Row(name, figures, broken)


def learning(out: Path) -> bool:
    """Return whether every peer has told of a round."""
    homes = list((out / "peers").glob("*"))
    return bool(homes) and all((home / "metrics.jsonl").exists() for home in homes)


def hosts() -> list[int]:
    """Return the hosts on this machine, in the order of their start, that are ours: below this process, or Ray's."""
    return sorted(pid for pid, command in children(os.getpid()).items() if f"-m {HOST}" in command)


def by_ssh(folder: Path, peers: int, rounds: int) -> Iterator[Row]:
    """Yield rows of hosts that ssh starts."""
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(SSH)
    (folder / "bin" / "ssh").chmod(0o755)
    lines = (f"{name} 127.0.0.1 {sys.executable}\n" for name in ("one", "two"))
    (folder / "hosts.txt").write_text("".join(lines))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    where = ["--hosts", str(folder / "hosts.txt")]
    for kill in (False, True):
        name = f"ssh, 2 machines{', one lost' if kill else ''}"
        yield run_on(name, folder / f"ssh-{kill}", where, path=path, peers=peers, rounds=rounds, kill=kill)


def on_ray(folder: Path, peers: int, rounds: int) -> Iterator[Row]:
    """Yield rows of hosts that are Ray's actors."""
    if any(importlib.util.find_spec(name) is None for name in ("ray", "grpc")):
        print("Ray is not tried: pip install 'gossip-node[ray]'", file=sys.stderr)
        return
    with ray_cluster(folder) as (address, _):
        for kill in (False, True):
            name = f"Ray, 2 machines{', one lost' if kill else ''}"
            where = ["--cluster", address]
            path = os.environ["PATH"]
            yield run_on(
                name, folder / f"ray-{kill}", where, path=path, peers=peers, rounds=rounds, kill=kill
            )


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tried: dict[str, Callable[[Path, int, int], Iterator[Row]]] = {"ssh": by_ssh, "ray": on_ray}
    parser.add_argument("--only", choices=tuple(tried))
    parser.add_argument("--peers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="4 peers, 20 rounds")
    given = parser.parse_args(arguments)
    peers, rounds = (4, 20) if given.smoke else (given.peers, given.rounds)
    verdicts = Verdicts(f"runs of {peers} peers on two machines")
    with tempfile.TemporaryDirectory(prefix="torture-machines-") as temporary:
        for name, rows in tried.items():
            if given.only in (None, name):
                for row in rows(Path(temporary), peers, rounds):
                    verdicts.add(row)
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
