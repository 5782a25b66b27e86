"""Enemies whose key is replaced, taken out of the file, or was never in it."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path

from client import Gone, Session, make_key, tls
from enemy_sessions import Enemy, ignore


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
