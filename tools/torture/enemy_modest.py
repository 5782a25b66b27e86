"""An enemy among the members of MoDeST."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from client import Gone, Heard, Session
from enemy_sessions import Enemy


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
