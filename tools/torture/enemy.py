"""An enemy as a process of its own: ``python enemy.py BEHAVIOUR JSON``. What it meets it prints as JSON lines.

It holds a key that stands in the peers file, as the worst neighbour does, and knows the wire from `client`. How each
behaviour goes about it stands in its docstring. An enemy works until it is killed, or has done what it came for.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from client import load_key
from enemy_floods import (
    bad_handshakes,
    messages,
    mute_connections,
    offences,
    plain_connects,
    refused_models,
    stale_models,
)
from enemy_keys import deaf_to_goodbye, half_handshake, strangers
from enemy_malformed import malformed
from enemy_modest import member
from enemy_push import push
from enemy_rounds import claim, deaf, echo, finished, late, reconnecting, silent
from enemy_sessions import Enemy

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
