"""Disks that are full, read-only, immutable or damaged: one sentence and a documented exit code, or the node goes on.

    python tools/torture/disk.py [--only NAME …] [--json] [--smoke]

n1 goes on learning all the time; n0 has a home that was killed in the middle, which is put back, damaged and started
for each case. A full and a read-only disk are tmpfs mounts where root may make them, else the limit on the length of
files (RLIMIT_FSIZE); immutable is `chattr +i`. Cases that this machine does not allow are told as such.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from arena import Arena, launcher
from disk_damages import (
    FOREIGN,
    GOES_ON,
    USAGE,
    Case,
    append,
    busy_socket,
    cut,
    file,
    flip,
    folder,
    from_n1,
    immutable,
    newest,
    nonsense_line,
    pipe,
    vector_starts,
    version,
)
from disk_mounts import fill, remount, small_disk
from disk_trials import Trials
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

_HEADER = 60
STARTS: tuple[Case, ...] = (
    Case("checkpoint: length of the header", flip(lambda data: 1), (FOREIGN,), says="checkpoint"),
    Case("checkpoint: high byte of the length", flip(lambda data: 7), (FOREIGN,)),
    Case("checkpoint: a brace of the header", flip(lambda data: 8), (FOREIGN,)),
    Case("checkpoint: in the header", flip(lambda data: _HEADER), (FOREIGN,)),
    Case("checkpoint: its digest", flip(lambda data: data.index(b'"digest"') + 15), (FOREIGN,)),
    Case("checkpoint: its state", flip(lambda data: data.index(b"round", data.index(b'"state"'))), (FOREIGN,)),
    Case("checkpoint: first byte of the model", flip(vector_starts), (FOREIGN,)),
    Case("checkpoint: last byte of the model", flip(lambda data: len(data) - 1), (FOREIGN,)),
    Case("checkpoint: empty", cut(lambda size: 0), (FOREIGN,)),
    Case("checkpoint: 7 bytes", cut(lambda size: 7), (FOREIGN,)),
    Case("checkpoint: half", cut(lambda size: size // 2), (FOREIGN,)),
    Case("checkpoint: a byte short", cut(lambda size: size - 1), (FOREIGN,)),
    Case("checkpoint: a byte long", append, (FOREIGN,)),
    Case("checkpoint: a folder", lambda home: folder(f"checkpoints/{newest(home).name}")(home), (FOREIGN,)),
    Case("checkpoint: a pipe", lambda home: pipe(f"checkpoints/{newest(home).name}")(home), (FOREIGN,)),
    Case("checkpoint: another version", version, (FOREIGN,), says="version"),
    Case("checkpoint: another peer's", from_n1, (FOREIGN,)),
    Case("identity: damaged", file("identity.pem", b"advertise: 127.0.0.1:1\nnonsense"), (USAGE,), says="identity"),
    Case("identity: readable by all", lambda home: (home / "identity.pem").chmod(0o644), (USAGE,), says="chmod"),
    Case("identity: gone", lambda home: (home / "identity.pem").unlink(), (USAGE,), says="init"),
    Case("metrics.jsonl: nonsense", nonsense_line, (GOES_ON,)),
    Case("metrics.jsonl: a folder", folder("metrics.jsonl"), (GOES_ON, USAGE)),
    Case("metrics.jsonl: a pipe", pipe("metrics.jsonl"), (GOES_ON, USAGE)),
    Case("events.jsonl: a folder", folder("events.jsonl"), (GOES_ON, USAGE)),
    Case("summary.json: a folder", folder("summary.json"), (GOES_ON, USAGE)),
    Case("status.sock: left behind", busy_socket, (GOES_ON,)),
    Case("status.sock: a folder", folder("status.sock"), (GOES_ON, USAGE)),
    Case("lock: a folder", lambda home: (home / "lock").unlink() or (home / "lock").mkdir(), (USAGE,)),  # type: ignore[func-returns-value]
    Case("checkpoints: a file", lambda home: shutil.rmtree(home / "checkpoints") or file("checkpoints", b"x")(home),
         (GOES_ON, USAGE, FOREIGN)),
    Case("home: immutable", immutable()[0], (GOES_ON, USAGE), immutable()[1]),
    Case("checkpoints: immutable", immutable("checkpoints")[0], (GOES_ON, USAGE), immutable("checkpoints")[1]),
    Case("metrics.jsonl: immutable", immutable("metrics.jsonl")[0], (GOES_ON, USAGE), immutable("metrics.jsonl")[1]),
)  # fmt: skip


def _on_a_small_disk(trials: Trials, name: str) -> Row:
    trials.restore()
    with small_disk(trials.home, kilobytes=400) as mounted:
        if not mounted:
            return Row(name, {"came of it": "not tried: no mount is allowed"})
        if name == "a full disk":
            return trials.while_running(name, fill, lambda home: (home / "filler").unlink())
        return trials.start(Case(name, remount("ro"), (USAGE,), remount("rw")))


def disk(started: Launcher, words: Sequence[str] | None) -> Verdicts:
    """Try everything whose name holds one of the words."""
    verdicts = Verdicts("disks")

    def wanted(name: str) -> bool:
        return not words or any(word in name for word in words)

    task = ["--algorithm", "dfedavg", "--topology", "full", "--rounds", "100000"]
    for setting in (
        "model.hidden=[16]",
        "local.steps=2",
        "protocol.deadline_floor_s=0.5",
        "net.backoff_max_s=0.5",
    ):
        task += ["--set", setting]
    with Arena(started, ("n0", "n1"), task=task, orders={"pace_s": 0.1}) as arena:
        trials = Trials(arena)
        trials.prepare()
        for case in STARTS:
            if wanted(case.name):
                verdicts.add(trials.start(case))
        if wanted("two nodes on one home"):
            verdicts.add(trials.second_on_one_home())
        for name in ("", "checkpoints", "metrics.jsonl"):
            told = f"{name or 'home'}: made immutable while running"
            if wanted(told):
                verdicts.add(trials.while_running(told, *immutable(name)))
        if wanted("no file may be as long"):
            verdicts.add(trials.limited())
        for name in ("a full disk", "a read-only disk"):
            if wanted(name):
                verdicts.add(_on_a_small_disk(trials, name))
    return verdicts


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="cases whose name contains one of these")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a few cases")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.only = list(SMOKE)
    with launcher(started) as started:
        return disk(started, given.only).show(as_json=given.json)


SMOKE = ("last byte of the model", "metrics.jsonl: nonsense", "a full disk")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
