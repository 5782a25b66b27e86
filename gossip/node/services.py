"""What runs beside the learning for whoever watches it: begun again when it fails, and never its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gossip.telemetry.containment import Containment

PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
"""Between two beginnings: whoever has moved the obstacle away waits a minute at most."""


async def keep_up(
    what: str, service: Callable[[Callable[[], None]], Awaitable[None]], contained: Containment
) -> None:
    """Run `service` until it ends by itself or is cancelled; each failure is contained under the name `what`.

    The service is given a function to call once it works: then its trouble is over, and the next pause short again.
    """
    pause_s = PAUSE_S

    def works() -> None:
        nonlocal pause_s
        pause_s = PAUSE_S
        contained.worked(what)

    while True:
        try:
            await service(works)
            return
        except Exception as error:
            contained.failed(what, error)
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
