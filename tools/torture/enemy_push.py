"""An enemy in gossip learning."""

from __future__ import annotations

import time

import numpy as np
from client import Session
from enemy_sessions import Enemy, ignore


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
