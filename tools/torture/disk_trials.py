"""A node that learns on, and another whose home is damaged before it starts or while it runs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from arena import Arena
from disk_damages import GOES_ON, INTERRUPTED, USAGE, Case, NotPossible, newest
from verdicts import Row

ENDS_S = 30.0
ROUNDS = 3
"""So many more are enough to say that it goes on."""


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
