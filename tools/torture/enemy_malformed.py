"""An enemy that says what no peer may say."""

from __future__ import annotations

import contextlib
import threading

from client import Gone, Session, load_key
from enemy_sessions import Enemy
from malformed import GREETED, MALFORMED, OPEN, RAW, TLS


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
