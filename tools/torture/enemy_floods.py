"""Enemies that send, connect or offend without end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import numpy as np
from client import CONTROL, Gone, Session, frame, tls
from enemy_sessions import Enemy, ignore


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
