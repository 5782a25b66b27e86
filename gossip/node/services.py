"""What runs beside the learning for whoever watches it: begun again when it fails, and never its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from gossip import __version__
from gossip.telemetry.containment import Containment

if TYPE_CHECKING:
    from gossip.telemetry.web import Web

PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
"""Between two beginnings: whoever has moved the obstacle away waits a minute at most."""

METRICS_S = 1.0
"""How fresh exported metrics are; Prometheus asks every 15 s or so."""


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


def open_web(address: str) -> Web:
    """Return the page, listening. Raises `SettingError` where it cannot."""
    from gossip.telemetry.web import Web  # costs 50 ms, seldom wanted

    return Web(address, version=__version__)


async def publish(web: Web, status: Callable[[], Mapping[str, Any]], contained: Containment) -> None:
    """Give the page the newest status, until cancelled."""
    while True:
        with contained("metrics not exported"):
            web.publish(status())
        await trio.sleep(METRICS_S)
