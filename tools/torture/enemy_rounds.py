"""Enemies among neighbours that learn in rounds: deaf, silent, late, or ahead of everybody."""

from __future__ import annotations

import contextlib
import threading
import time

from client import Gone, Heard, Session
from enemy_sessions import RETRY_S, Enemy, ignore


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
