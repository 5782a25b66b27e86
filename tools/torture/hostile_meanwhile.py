"""What else happens while an enemy of `hostile.py` is there; each returns the promises that broke."""

from __future__ import annotations

import signal
from pathlib import Path

from arena import Arena, said_by
from client import make_key
from malformed import MALFORMED


def paused(arena: Arena, said: Path) -> list[str]:
    """Hold one honest peer up for some seconds, so that it is really behind."""
    arena.wait_until_round(10, 60, ["n0", "n1"])
    arena.signal(["n2"], signal.SIGSTOP)
    arena.wait(lambda: False, 4.0, names=["n0", "n1"])
    arena.signal(["n2"], signal.SIGCONT)
    return []


def rotated(arena: Arena, said: Path) -> list[str]:
    """The key is replaced while a handshake with the old one is under way."""
    if not arena.wait(lambda: any("ready" in entry for entry in said_by(said)), 30):
        return ["the enemy's handshake did not begin"]
    new = make_key(arena.folder / "z-new.pem", "z", serial=2)
    lines = {**arena.lines, "z": new.peers_line(arena.lines["z"].split()[1])}
    arena.write_peers(lines.values())
    _read_again(arena)
    (arena.folder / "go").touch()
    arena.wait(lambda: any("accepted" in entry for entry in said_by(said)), 30)
    entry = next((entry for entry in said_by(said) if "accepted" in entry), {})
    return [] if entry.get("accepted") is False else [f"the old key was let in ({entry or 'no answer'})"]


CUT_WITHIN_S = 2.0


def removed(arena: Arena, said: Path) -> list[str]:
    """The peer is taken out of the file, and goes on sending."""
    if not arena.wait(lambda: any("welcomed" in entry for entry in said_by(said)), 30):
        return ["the enemy was never let in"]
    arena.wait_until_round(3, 30, ["n0"])
    arena.write_peers(line for name, line in arena.lines.items() if name != "z")
    _read_again(arena)
    (arena.folder / "go").touch()
    arena.wait(lambda: any("cut_after_s" in entry for entry in said_by(said)), 45)
    entry = next((entry for entry in said_by(said) if "cut_after_s" in entry), None)
    if entry is None:
        return ["nothing is known of when it was cut off"]
    late = entry["cut_after_s"] > CUT_WITHIN_S
    return [f"heard for {entry['cut_after_s']:.1f} s after it was removed"] if late else []


def _read_again(arena: Arena) -> None:
    names = list(arena.peers)
    before = {name: len(arena.peers[name].events("peers_read_again")) for name in names}
    arena.signal(names, signal.SIGHUP)
    arena.wait(lambda: all(len(arena.peers[n].events("peers_read_again")) > before[n] for n in names), 10)


def all_refused(arena: Arena, said: Path) -> list[str]:
    """Every malformed frame ends its connection, and only that."""
    arena.enemies_end(120)
    entries = [entry for entry in said_by(said) if "malformed" in entry]
    broken = [f"{e['malformed']}: not reached ({e['ended']})" for e in entries if e.get("unreached")]
    broken += [f"{e['malformed']}: went on" for e in entries if e.get("must_end") and not e["ended"]]
    if len(entries) != len(MALFORMED):
        broken.append(f"{len(entries)} of {len(MALFORMED)} were tried")
    return broken


def strangers(arena: Arena, said: Path) -> list[str]:
    """Who is not in the file is not heard."""
    arena.enemies_end(40)
    entries = [entry for entry in said_by(said) if "stranger" in entry]
    broken = [f"let in: {entry['stranger']}" for entry in entries if entry["let_in"]]
    return broken if len(entries) == 3 else [*broken, f"{len(entries)} of 3 were tried"]


LINES_PER_KIND_MAX = 3
"""Of one enemy, one reason, in a run of less than two minutes: one at once, one a minute."""


def few_lines(arena: Arena, said: Path) -> list[str]:
    """187 offences from 187 ports are a line a minute."""
    arena.enemies_end(60)
    lines = [
        line for line in arena.peers["n0"].logs().splitlines() if "msgpack" in line or "127.0.0.1:" in line
    ]
    lines = [line for line in lines if "z (" in line or "from 127" in line]
    return [f"{len(lines)} lines of log"] if len(lines) > LINES_PER_KIND_MAX else []
