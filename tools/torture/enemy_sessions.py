"""What every enemy is: a key, its sessions with the targets, and what it has learnt in them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from client import Gone, Heard, Key, Session

RETRY_S = 0.5


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
