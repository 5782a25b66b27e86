"""An enemy as a process of its own: ``python enemy.py BEHAVIOUR JSON``. What it meets it prints as JSON lines.

It holds a key that stands in the peers file, as the worst neighbour does, and knows the wire from `client`. How each
behaviour goes about it stands in its docstring. An enemy works until it is killed, or has done what it came for.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from client import CONTROL, Gone, Heard, Key, Session, frame, load_key, make_key, tls
from malformed import GREETED, MALFORMED, OPEN, RAW, TLS

RETRY_S = 0.5
FAR = 2**53


@dataclass
class Enemy:
    """What it was told, and what it has learnt."""

    key: Key
    targets: Mapping[str, tuple[str, int]]
    peers: list[str]
    options: Mapping[str, Any]
    rounds: dict[str, int] = field(default_factory=dict)
    """The newest round that each target has spoken of."""
    model: bytes = b""
    """The newest model that came."""
    sessions: dict[str, Session] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The run's last round."""
        return int(self.options["rounds"])

    @property
    def zeros(self) -> bytes:
        """A model of zeros."""
        return bytes(4 * int(self.options["parameters"]))

    def say(self, **what: Any) -> None:
        """Tell whoever started us."""
        print(json.dumps({"t": time.time(), **what}), flush=True)

    def keep(
        self, name: str, hear: Callable[[Session, Heard], None], *, for_s: float = float("inf")
    ) -> Session:
        """Open a session with a target, trying until it succeeds."""
        while True:
            session = Session(self.key, self.targets[name])
            try:
                session.open()
            except (OSError, Gone) as error:
                self.say(refused=name, why=str(error)[:200])
                session.close()
                time.sleep(RETRY_S)
                continue
            self.sessions[name] = session
            session.listen(lambda s, heard: self._note(name, s, heard, hear))
            self.say(welcomed=name)
            return session

    def _note(
        self, name: str, session: Session, heard: Heard, hear: Callable[[Session, Heard], None]
    ) -> None:
        if "round" in heard.body:
            self.rounds[name] = max(self.rounds.get(name, 0), int(heard.body["round"]))
        if heard.tensor is not None:
            self.model = heard.tensor
        hear(session, heard)

    def everywhere(
        self, hear: Callable[[Session, Heard], None], act: Callable[[str, Session], None] | None = None
    ) -> None:
        """Keep a session with every target for ever; `act` runs beside each, and is run again in the next."""

        def one(name: str) -> None:
            while True:
                session = self.keep(name, hear)
                with contextlib.suppress(Gone):
                    if act is not None:
                        act(name, session)
                    while session.ended is None:
                        time.sleep(0.1)
                self.say(ended=name, why=str(session.goodbye or session.ended)[:200])
                session.close()
                time.sleep(RETRY_S)

        for name in self.targets:
            threading.Thread(target=one, args=(name,), daemon=True).start()
        while True:
            time.sleep(1)


def ignore(session: Session, heard: Heard) -> None:
    """Hear, and do nothing."""


# --- rounds ---


def silent(enemy: Enemy) -> None:
    """Connected, alive, and without a single model."""
    enemy.everywhere(ignore)


def deaf(enemy: Enemy) -> None:
    """Connected, and never reads a byte."""

    def one(name: str) -> None:
        while True:
            session = Session(enemy.key, enemy.targets[name])
            with contextlib.suppress(OSError, Gone):
                session.open()
                enemy.say(welcomed=name)
                while True:
                    session.control("heartbeat", {"stamp_us": 1, "echo_us": 0, "held_us": 0})
                    time.sleep(1)
            session.close()
            time.sleep(RETRY_S)

    for name in enemy.targets:
        threading.Thread(target=one, args=(name,), daemon=True).start()
    while True:
        time.sleep(1)


def late(enemy: Enemy) -> None:
    """Answers every model with that same model, by a fixed time too late."""
    late_s = float(enemy.options["late_s"])

    def hear(session: Session, heard: Heard) -> None:
        if heard.kind == "model" and heard.tensor is not None:
            body, tensor = dict(heard.body), heard.tensor

            def answer() -> None:
                with contextlib.suppress(Gone):
                    session.model("model", body, tensor)

            timer = threading.Timer(late_s, answer)
            timer.daemon = True
            timer.start()

    enemy.everywhere(hear)


def reconnecting(enemy: Enemy) -> None:
    """Silent, and comes anew every few seconds."""

    def act(name: str, session: Session) -> None:
        time.sleep(float(enemy.options["every_s"]))
        session.close()

    enemy.everywhere(ignore, act)


def echo(enemy: Enemy) -> None:
    """Answers every model at once with that same model: as far as anybody can see, an honest neighbour."""

    def hear(session: Session, heard: Heard) -> None:
        if heard.kind == "model" and heard.tensor is not None:
            session.model("model", dict(heard.body), heard.tensor)

    enemy.everywhere(hear)


def claim(enemy: Enemy) -> None:
    """Says that it is at some round, with a model of zeros: once, or again and again.

    `round`: "last", the run's last; or a number of rounds ahead of what the target is at.
    """
    every_s = float(enemy.options.get("every_s", 0))

    def act(name: str, session: Session) -> None:
        while name not in enemy.rounds:
            time.sleep(0.05)
            if session.ended is not None:
                return
        while True:
            where = enemy.options["round"]
            round = enemy.last if where == "last" else min(enemy.rounds[name] + int(where), enemy.last)
            session.model("model", {"round": round, "step": 0}, enemy.zeros)
            if not every_s:
                enemy.say(claimed=round, to=name)
                return
            time.sleep(every_s)

    enemy.everywhere(ignore, act)


def finished(enemy: Enemy) -> None:
    """Says at once that it is done."""
    enemy.everywhere(ignore, lambda name, session: session.control("finished", {"round": enemy.last}))


# --- MoDeST ---


def member(enemy: Enemy) -> None:
    """Takes part in MoDeST but for what `lie` says.

    lie: none | aggregate-last | finished | train-far | ping-far | expected-one | all-left | counter | never-trains |
    dead | silent-aggregator
    """
    lie = str(enemy.options["lie"])
    others = [name for name in enemy.peers if name != enemy.key.name]

    def bulk(round: int, view: list[list[Any]] | None = None, expected: int | None = None) -> dict[str, Any]:
        return {"round": round, "expected": expected or 3, "view": view or [], "version": 0}

    def to_all(kind: str, body: dict[str, Any], tensor: bytes) -> None:
        for session in list(enemy.sessions.values()):
            with contextlib.suppress(Gone):
                session.model(kind, body, tensor)

    def hear(session: Session, heard: Heard) -> None:
        body = heard.body
        if heard.kind == "modest-ping" and lie != "dead":
            round = enemy.last - 1 if lie == "ping-far" else int(body["round"])
            session.control("modest-pong", {"nonce": body["nonce"], "round": round, "version": 0})
        elif heard.kind == "modest-fetch" and lie == "finished":
            session.model("modest-newest", bulk(enemy.last), enemy.zeros)
        elif heard.kind == "modest-train" and heard.tensor is not None:
            round = int(body["round"]) + 1
            if lie == "expected-one":
                # Its models are harmless: what it says about their number is the attack.
                to_all("modest-aggregate", bulk(round, expected=1), heard.tensor)
            elif lie not in ("never-trains", "dead"):
                to_all("modest-aggregate", bulk(round), heard.tensor)
        elif heard.kind == "modest-aggregate" and lie == "silent-aggregator":
            session.control("modest-ack", {"round": body["round"]})

    def act(name: str, session: Session) -> None:
        while not enemy.rounds and lie not in ("none", "aggregate-last", "finished", "dead", "never-trains"):
            time.sleep(0.05)
            if session.ended is not None:
                return
        while True:
            now = max(enemy.rounds.values(), default=0)
            if lie == "aggregate-last":
                session.model("modest-aggregate", bulk(enemy.last + 1, expected=1), enemy.zeros)
            elif lie == "finished":
                session.control("finished", {"round": enemy.last})
            elif lie == "train-far":
                session.model("modest-train", bulk(min(now + 900, enemy.last)), enemy.zeros)
            elif lie == "ping-far":
                session.control("modest-ping", {"nonce": 7, "round": min(now + 900, enemy.last - 1)})
            elif lie in ("all-left", "counter"):
                counter = 10 if lie == "all-left" else 2**52 + 5
                view = [[other, counter, True, now + 1] for other in others]
                session.model("modest-aggregate", bulk(now + 1, view), enemy.model or enemy.zeros)
            else:
                return
            time.sleep(1)

    enemy.everywhere(hear, act)


# --- push ---


def push(enemy: Enemy) -> None:
    """Pushes at its own pace: the newest model it got with its sign flipped, or one as old as is believed possible."""
    period_s = float(enemy.options.get("period_s", 0.2))
    flip = bool(enemy.options.get("flip", True))

    def act(name: str, session: Session) -> None:
        count = 0
        while True:
            time.sleep(period_s)
            if not enemy.model:
                continue
            count += 1
            vector = np.frombuffer(enemy.model, "<f4")
            tensor = (-vector if flip else np.zeros_like(vector)).tobytes()
            age = int(enemy.options["age"]) if "age" in enemy.options else enemy.rounds.get(name, 0)
            session.model("push", {"round": count, "age": age, "part": 0, "parts": 1}, tensor)

    enemy.everywhere(ignore, act)


# --- keys ---


def half_handshake(enemy: Enemy) -> None:
    """Shakes hands, waits until it is told to go on, and only then says hello."""
    (name,) = enemy.targets
    session = Session(enemy.key, enemy.targets[name])
    session.secure()
    session.theirs = session.hear().document
    enemy.say(ready=True)
    _wait_for(enemy)
    try:
        session.say_hello()
        session.wait_for_welcome()
        session.control("finished", {"round": 1})
        enemy.say(accepted=True)
    except Gone as error:
        enemy.say(accepted=False, why=str(error)[:200])


def deaf_to_goodbye(enemy: Enemy) -> None:
    """Ignores the goodbye, keeps sending, and tells for how long that was taken."""
    (name,) = enemy.targets
    session = enemy.keep(name, ignore)
    _wait_for(enemy)
    told_s = time.monotonic()
    last_s = told_s
    with contextlib.suppress(Gone):
        while time.monotonic() - told_s < 30:
            session.model("model", {"round": 1, "step": 0}, enemy.zeros)
            last_s = time.monotonic()
            time.sleep(0.02)
    enemy.say(cut_after_s=last_s - told_s)


def _wait_for(enemy: Enemy) -> None:
    while not Path(enemy.options["go"]).exists():
        time.sleep(0.02)


# --- floods ---


def messages(enemy: Enemy) -> None:
    """Sends small messages, so many a second, in bundles; heartbeats unless `kind` says otherwise."""
    per_s = int(enemy.options["per_s"])
    kind = str(enemy.options.get("kind", "heartbeat"))
    body = {"stamp_us": 1, "echo_us": 0, "held_us": 0} if kind == "heartbeat" else {"round": 0}

    def act(name: str, session: Session) -> None:
        began_s, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began_s) * per_s) - sent
            if due > 0:
                session.raw(b"".join(session.control_frame(kind, body) for _ in range(min(due, 1000))))
                sent += min(due, 1000)
            time.sleep(0.01)

    enemy.everywhere(ignore, act)


def refused_models(enemy: Enemy) -> None:
    """Sends models of NaN as fast as they are taken."""
    tensor = np.full(int(enemy.options["parameters"]), np.nan, "<f4").tobytes()

    def act(name: str, session: Session) -> None:
        while True:
            session.model("model", {"round": enemy.rounds.get(name, 0), "step": 0}, tensor)

    enemy.everywhere(ignore, act)


def stale_models(enemy: Enemy) -> None:
    """Sends models of round 0 as fast as they are taken."""

    def act(name: str, session: Session) -> None:
        while True:
            session.model("model", {"round": 0, "step": 0}, enemy.zeros)

    enemy.everywhere(ignore, act)


def bad_handshakes(enemy: Enemy) -> None:
    """TLS without a certificate, again and again, in some threads: cheap here, and a signature there each time."""
    ((_, address),) = enemy.targets.items()
    context = tls(None)

    def shake() -> None:
        while True:
            session = Session(enemy.key, address, source="127.0.0.66")
            with contextlib.suppress(OSError, Gone):
                session.secure(context)
                session.hear()
            session.close()

    for _ in range(8):
        threading.Thread(target=shake, daemon=True).start()
    enemy.say(shaking=True)
    while True:
        time.sleep(1)


def mute_connections(enemy: Enemy) -> None:
    """Many connections with a trusted key that never say hello."""
    ((_, address),) = enemy.targets.items()
    context = tls(enemy.key)
    held: list[Session] = []
    for _ in range(int(enemy.options["count"])):
        session = Session(enemy.key, address)
        try:
            session.secure(context)
        except OSError:
            session.close()
            continue
        held.append(session)
    enemy.say(held=len(held))
    while True:
        time.sleep(1)


def plain_connects(enemy: Enemy) -> None:
    """Many TCP connections in a short time from another host, which say nothing."""
    ((_, address),) = enemy.targets.items()
    count, in_s = int(enemy.options["count"]), float(enemy.options["in_s"])
    held: list[socket.socket] = []
    enemy.say(connecting=count)
    began_s = time.monotonic()
    for number in range(count):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(address, timeout=2, source_address=("127.0.0.66", 0)))
        ahead_s = number / count * in_s - (time.monotonic() - began_s)
        if ahead_s > 0:
            time.sleep(ahead_s)
    enemy.say(connected=len(held), seconds=time.monotonic() - began_s)
    time.sleep(float(enemy.options.get("hold_s", 30)))


def offences(enemy: Enemy) -> None:
    """Breaks the same rule again and again, from a new port each time."""
    ((_, address),) = enemy.targets.items()
    done = 0
    for _ in range(int(enemy.options["count"])):
        session = Session(enemy.key, address)
        with contextlib.suppress(OSError, Gone):
            session.secure()
            session.raw(frame(CONTROL, b"\xc1"))
            while True:
                session.hear()
        session.close()
        done += 1
        time.sleep(float(enemy.options.get("every_s", 0.05)))
    enemy.say(offences=done)


# --- malformed ---


def malformed(enemy: Enemy) -> None:
    """Every entry of `MALFORMED`, each with a key of its own."""
    ((_, address),) = enemy.targets.items()
    folder = enemy.key.path.parent
    shape = [int(enemy.options["parameters"])]
    wanted = enemy.options.get("only")
    for number, entry in enumerate(MALFORMED):
        if wanted is not None and number not in wanted:
            continue
        session = Session(load_key(folder / f"{enemy.options['prefix']}{number:02d}.pem"), address)
        session.shape = shape
        ended, stage = "", RAW
        try:
            session.dial()
            if entry.stage != RAW:
                session.secure()
                stage = TLS
            if entry.stage in (GREETED, OPEN):
                session.theirs = session.hear().document
                stage = GREETED
            if entry.stage == OPEN:
                session.say_hello()
                session.wait_for_welcome()
                stage = OPEN
        except (Gone, OSError) as error:
            enemy.say(malformed=entry.name, reached=stage, ended=str(error)[:100], unreached=True)
            continue
        with contextlib.suppress(Gone, OSError):
            entry.say(session)
        ended = _ends_within(session, 5.0 if entry.ends else 0.3)
        enemy.say(malformed=entry.name, reached=stage, ended=ended, must_end=entry.ends)
        session.close()


def _ends_within(session: Session, seconds: float) -> str:
    """Return how the connection ended, "" where it goes on."""
    ended = [""]

    def read() -> None:
        try:
            while True:
                heard = session.hear()
                if heard.kind == "goodbye":
                    ended[0] = f"goodbye: {heard.body.get('sentence', '')}"[:200]
        except (Gone, OSError, ValueError) as error:
            ended[0] = ended[0] or str(error)[:200]

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(seconds)
    return "" if reading.is_alive() else ended[0] or "ended"


def strangers(enemy: Enemy) -> None:
    """TLS without a certificate, with one that nobody knows, and in an older version."""
    ((_, address),) = enemy.targets.items()
    unknown = make_key(enemy.key.path.with_name("stranger.pem"), enemy.key.name)
    for name, context in (
        ("no certificate", lambda: tls(None)),
        ("an unknown certificate", lambda: tls(unknown)),
        ("TLS 1.2", lambda: tls(enemy.key, version=ssl.TLSVersion.TLSv1_2)),
    ):
        session = Session(enemy.key, address)
        try:
            session.secure(context())
            heard = session.hear()
            enemy.say(stranger=name, let_in=True, heard=heard.kind)
        except (Gone, OSError) as error:
            enemy.say(stranger=name, let_in=False, why=str(error)[:200])
        session.close()


BEHAVIOURS: dict[str, Callable[[Enemy], None]] = {
    each.__name__: each
    for each in (
        silent, deaf, late, reconnecting, echo, claim, finished, member, push, half_handshake, deaf_to_goodbye,
        messages, refused_models, stale_models, bad_handshakes, mute_connections, plain_connects,
        offences, malformed, strangers,
    )
}  # fmt: skip


def main() -> None:
    """Behave."""
    behaviour, orders = sys.argv[1], json.loads(sys.argv[2])
    enemy = Enemy(
        key=load_key(Path(orders["key"])),
        targets={name: (host, port) for name, (host, port) in orders["targets"].items()},
        peers=orders["peers"],
        options=orders,
    )
    BEHAVIOURS[behaviour](enemy)
    os._exit(0)


if __name__ == "__main__":
    main()
