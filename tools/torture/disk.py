"""Disks that are full, read-only, immutable or damaged: one sentence and a documented exit code, or the node goes on.

    python tools/torture/disk.py [--only NAME …] [--json] [--smoke]

n1 goes on learning all the time; n0 has a home that was killed in the middle, which is put back, damaged and started
for each case. A full and a read-only disk are tmpfs mounts where root may make them, else the limit on the length of
files (RLIMIT_FSIZE); immutable is `chattr +i`. Cases that this machine does not allow are told as such.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arena import Arena, launcher
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

USAGE, FOREIGN, INTERRUPTED = 2, 5, 130
ENDS_S = 30.0
ROUNDS = 3
"""So many more are enough to say that it goes on."""
GOES_ON = 0


class NotPossible(Exception):
    """This machine does not let us try it."""


@dataclass(frozen=True)
class Case:
    """A damage, and what may come of it."""

    name: str
    damage: Callable[[Path], None]
    may: tuple[int, ...]
    """Exit codes, or `GOES_ON`."""
    undo: Callable[[Path], None] = lambda home: None
    says: str = ""
    """Words that its sentence holds."""


def newest(home: Path) -> Path:
    """Return the newest checkpoint."""
    return max((home / "checkpoints").glob("round-*.safetensors"))


def _flip(at: Callable[[bytes], int]) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = newest(home)
        data = bytearray(path.read_bytes())
        data[at(data)] ^= 0x15
        path.write_bytes(data)

    return damage


def _vector_starts(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _cut(to: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = newest(home)
        path.write_bytes(path.read_bytes()[: to(path.stat().st_size)])

    return damage


def _append(home: Path) -> None:
    with newest(home).open("ab") as file:
        file.write(b"\0")


def _version(home: Path) -> None:
    path = newest(home)
    data = path.read_bytes()
    path.write_bytes(re.sub(rb"gossip-checkpoint-\d", b"gossip-checkpoint-9", data))


def _from_n1(home: Path) -> None:
    theirs = newest(home.parent / "n1")
    for path in (home / "checkpoints").iterdir():
        path.unlink()
    shutil.copy(theirs, home / "checkpoints" / theirs.name)


def _file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda home: (home / name).write_bytes(data) and None  # type: ignore[func-returns-value]


def _nonsense_line(home: Path) -> None:
    path = home / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    nonsense = b'\xff\xfe nonsense\n[1]\nnull\n7\n{"round": "many"}\n{"round": null}\n{}\n'
    path.write_bytes(b"".join([*lines[:1], nonsense, *lines[1:], b'{"torn']))


def _folder(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        (path / "in it").mkdir(parents=True)

    return damage


def _pipe(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        (home / name).unlink(missing_ok=True)
        os.mkfifo(home / name)

    return damage


def _immutable(name: str = "") -> tuple[Callable[[Path], None], Callable[[Path], None]]:
    def change(sign: str) -> Callable[[Path], None]:
        def do(home: Path) -> None:
            _attribute(f"{sign}i", home / name)

        return do

    return change("+"), change("-")


def _attribute(change: str, path: Path) -> None:
    try:
        subprocess.run(["chattr", change, str(path)], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPossible("chattr is not allowed") from error


def _busy_socket(home: Path) -> None:
    # A socket file that a crashed node left behind.
    with socket.socket(socket.AF_UNIX) as left, contextlib.suppress(OSError):
        left.bind(str(home / "status.sock"))


_HEADER = 60
STARTS: tuple[Case, ...] = (
    Case("checkpoint: length of the header", _flip(lambda data: 1), (FOREIGN,), says="checkpoint"),
    Case("checkpoint: high byte of the length", _flip(lambda data: 7), (FOREIGN,)),
    Case("checkpoint: a brace of the header", _flip(lambda data: 8), (FOREIGN,)),
    Case("checkpoint: in the header", _flip(lambda data: _HEADER), (FOREIGN,)),
    Case("checkpoint: its digest", _flip(lambda data: data.index(b'"digest"') + 15), (FOREIGN,)),
    Case("checkpoint: its state", _flip(lambda data: data.index(b"round", data.index(b'"state"'))), (FOREIGN,)),
    Case("checkpoint: first byte of the model", _flip(_vector_starts), (FOREIGN,)),
    Case("checkpoint: last byte of the model", _flip(lambda data: len(data) - 1), (FOREIGN,)),
    Case("checkpoint: empty", _cut(lambda size: 0), (FOREIGN,)),
    Case("checkpoint: 7 bytes", _cut(lambda size: 7), (FOREIGN,)),
    Case("checkpoint: half", _cut(lambda size: size // 2), (FOREIGN,)),
    Case("checkpoint: a byte short", _cut(lambda size: size - 1), (FOREIGN,)),
    Case("checkpoint: a byte long", _append, (FOREIGN,)),
    Case("checkpoint: a folder", lambda home: _folder(f"checkpoints/{newest(home).name}")(home), (FOREIGN,)),
    Case("checkpoint: a pipe", lambda home: _pipe(f"checkpoints/{newest(home).name}")(home), (FOREIGN,)),
    Case("checkpoint: another version", _version, (FOREIGN,), says="version"),
    Case("checkpoint: another peer's", _from_n1, (FOREIGN,)),
    Case("identity: damaged", _file("identity.pem", b"advertise: 127.0.0.1:1\nnonsense"), (USAGE,), says="identity"),
    Case("identity: readable by all", lambda home: (home / "identity.pem").chmod(0o644), (USAGE,), says="chmod"),
    Case("identity: gone", lambda home: (home / "identity.pem").unlink(), (USAGE,), says="init"),
    Case("metrics.jsonl: nonsense", _nonsense_line, (GOES_ON,)),
    Case("metrics.jsonl: a folder", _folder("metrics.jsonl"), (GOES_ON, USAGE)),
    Case("metrics.jsonl: a pipe", _pipe("metrics.jsonl"), (GOES_ON, USAGE)),
    Case("events.jsonl: a folder", _folder("events.jsonl"), (GOES_ON, USAGE)),
    Case("summary.json: a folder", _folder("summary.json"), (GOES_ON, USAGE)),
    Case("status.sock: left behind", _busy_socket, (GOES_ON,)),
    Case("status.sock: a folder", _folder("status.sock"), (GOES_ON, USAGE)),
    Case("lock: a folder", lambda home: (home / "lock").unlink() or (home / "lock").mkdir(), (USAGE,)),  # type: ignore[func-returns-value]
    Case("checkpoints: a file", lambda home: shutil.rmtree(home / "checkpoints") or _file("checkpoints", b"x")(home),
         (GOES_ON, USAGE, FOREIGN)),
    Case("home: immutable", _immutable()[0], (GOES_ON, USAGE), _immutable()[1]),
    Case("checkpoints: immutable", _immutable("checkpoints")[0], (GOES_ON, USAGE), _immutable("checkpoints")[1]),
    Case("metrics.jsonl: immutable", _immutable("metrics.jsonl")[0], (GOES_ON, USAGE), _immutable("metrics.jsonl")[1]),
)  # fmt: skip


class Trials:
    """n1 that runs, and n0's home of which a copy is put back for each case."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.home = arena.peers["n0"].home
        self._copy = arena.folder / "copy-of-n0"

    def prepare(self) -> None:
        """Learn for some rounds, and kill n0."""
        self.arena.start()
        if not self.arena.wait_until_round(4, 60):
            raise RuntimeError("the two nodes never began")
        self._kill()
        shutil.copytree(self.home, self._copy, ignore=shutil.ignore_patterns("status.sock"))

    def _kill(self) -> None:
        self.arena.signal(["n0"], signal.SIGKILL)
        self.arena.wait_until_ended(10, ["n0"])

    def restore(self) -> None:
        """Put n0's home back as it was."""
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self._copy, self.home, dirs_exist_ok=True)

    def start(self, case: Case) -> Row:
        """Damage the home and start n0."""
        self.restore()
        try:
            case.damage(self.home)
        except NotPossible as error:
            return Row(case.name, {"came of it": f"not tried: {error}"})
        try:
            came, broken = self._watch()
        finally:
            case.undo(self.home)
        if came not in case.may:
            broken.append(
                f"came to {came}, not {' or '.join('go on' if code == 0 else f'exit {code}' for code in case.may)}"
            )
        sentence = _sentence(self.arena)
        if came != GOES_ON:
            broken += [f"no one sentence: {sentence!r}"] if not sentence.startswith("gossip-node: ") else []
            broken += [f"its sentence does not say '{case.says}'"] if case.says not in sentence else []
        what = "goes on" if came == GOES_ON else f"exit {came}"
        return Row(case.name, {"came of it": what, "it says": sentence[:90] if came else ""}, broken)

    def _watch(self) -> tuple[int, list[str]]:
        arena, peer = self.arena, self.arena.peers["n0"]
        peer.said_round = -1
        arena.start("n0")
        printed = peer.printed
        went_on = arena.wait(
            lambda: not arena.runs("n0") or _rounds_printed(printed) >= ROUNDS, ENDS_S, names=["n0"]
        )
        broken = [] if went_on else ["hangs"]
        if arena.runs("n0"):
            self._kill()
            came = GOES_ON
        else:
            came = peer.codes[-1]
        if "Traceback" in peer.log.read_text(errors="replace"):
            broken.append(f"traceback: {_sentence(arena)[:100]}")
        return came, broken

    def second_on_one_home(self) -> Row:
        """Start a node where one runs."""
        self.restore()
        arena, peer = self.arena, self.arena.peers["n0"]
        arena.start("n0")
        arena.wait(lambda: bool(arena.ask("n0")), ENDS_S, names=["n0"])
        command = [
            sys.executable,
            "-m",
            "gossip.cli",
            "--peers",
            str(arena.folder / "peers.txt"),
            "--home",
            str(peer.home),
        ]
        second = subprocess.run(
            [*command, *arena.task], capture_output=True, text=True, timeout=60, check=False
        )
        before = peer.said_round
        goes_on = arena.wait(lambda: peer.said_round > before, ENDS_S, names=["n0"])
        broken = [] if second.returncode == USAGE else [f"the second came to {second.returncode}"]
        broken += (
            []
            if "another gossip-node is running there" in second.stderr
            else [f"said {second.stderr[-200:]!r}"]
        )
        broken += [] if goes_on else ["the first does not go on"]
        self._kill()
        return Row(
            "two nodes on one home",
            {"came of it": f"exit {second.returncode}", "it says": second.stderr.strip()[:90]},
            broken,
        )

    def limited(self) -> Row:
        """Let no file become as long as a checkpoint. Nothing is told of then, since nothing is on the disk."""
        self.restore()
        arena, peer, other = self.arena, self.arena.peers["n0"], self.arena.peers["n1"]
        arena.start("n0", file_bytes_max=newest(self.home).stat().st_size - 1)
        arena.wait(lambda: bool(arena.ask("n0")), ENDS_S, names=["n0"])
        before = other.said_round
        broken = [] if arena.wait_until_round(before + 12, ENDS_S, ["n1"]) else ["n1 does not get on"]
        if not arena.runs("n0"):
            broken.append(f"ended with {peer.codes[-1]}: {_sentence(arena)[:100]}")
        elif not arena.ask("n0"):
            broken.append("status is not answered")
        if not any(entry["heard"] for entry in other.metrics()[-5:]):
            broken.append("n1 does not hear it any more")
        self._kill()
        return Row(
            "no file may be as long as a checkpoint", {"came of it": "" if broken else "goes on"}, broken
        )

    def while_running(self, name: str, damage: Callable[[Path], None], undo: Callable[[Path], None]) -> Row:
        """Spoil the disk under a running node: it learns on, and writes again when it can."""
        self.restore()
        arena, peer = self.arena, self.arena.peers["n0"]
        arena.start("n0")
        if not arena.wait(lambda: _rounds_printed(peer.printed) >= 2, ENDS_S, names=["n0"]):
            return Row(name, {}, ["never began"])
        try:
            damage(self.home)
        except NotPossible as error:
            self._kill()
            return Row(name, {"came of it": f"not tried: {error}"})
        broken = []
        spoilt = peer.saved_round()
        try:
            with_the_trouble = arena.peers["n1"].said_round
            arena.wait(lambda: arena.peers["n1"].said_round >= with_the_trouble + 12, ENDS_S)
            if not arena.runs("n0"):
                broken.append(f"ended with {peer.codes[-1]}: {_sentence(arena)[:100]}")
            elif not arena.ask("n0"):
                broken.append("status is not answered")
            left = [path.name for path in (self.home / "checkpoints").iterdir() if path.name.startswith(".")]
            if len(left) > 1:
                broken.append(f"{len(left)} temporary files left")
        finally:
            undo(self.home)
        if arena.runs("n0"):
            if not arena.wait(lambda: peer.saved_round() >= spoilt + 2, ENDS_S, names=["n0", "n1"]):
                broken.append("writes nothing after the disk is well again")
            arena.signal(["n0"], signal.SIGTERM)
            arena.wait_until_ended(15, ["n0"])
            if peer.codes[-1] != INTERRUPTED:
                broken.append(f"SIGTERM came to {peer.codes[-1]}")
        if "Traceback" in peer.log.read_text(errors="replace"):
            broken.append("traceback")
        lines = peer.log.read_text(errors="replace").count("not written")
        return Row(
            name,
            {
                "came of it": "goes on" if not broken else "",
                "it says": f"{lines} lines of what is not written",
            },
            broken,
        )


def _rounds_printed(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _sentence(arena: Arena) -> str:
    lines = arena.peers["n0"].log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


@contextmanager
def small_disk(home: Path, *, kilobytes: int) -> Iterator[bool]:
    """Put a small disk of its own under a home; say whether that was possible."""
    aside = home.with_name("aside")
    home.rename(aside)
    home.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "torture", str(home)]
    try:
        mounted = subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        mounted = False
    shutil.copytree(aside, home, dirs_exist_ok=True)
    shutil.rmtree(aside)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(home)], capture_output=True, timeout=10, check=False)


def _fill(home: Path) -> None:
    file = os.open(home / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(512))
    os.close(file)


def _remount(option: str) -> Callable[[Path], None]:
    def do(home: Path) -> None:
        done = subprocess.run(
            ["mount", "-o", f"remount,{option}", str(home)], capture_output=True, timeout=10, check=False
        )
        if done.returncode:
            raise NotPossible("it cannot be mounted anew")

    return do


def _on_a_small_disk(trials: Trials, name: str) -> Row:
    trials.restore()
    with small_disk(trials.home, kilobytes=400) as mounted:
        if not mounted:
            return Row(name, {"came of it": "not tried: no mount is allowed"})
        if name == "a full disk":
            return trials.while_running(name, _fill, lambda home: (home / "filler").unlink())
        return trials.start(Case(name, _remount("ro"), (USAGE,), _remount("rw")))


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
                verdicts.add(trials.while_running(told, *_immutable(name)))
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
