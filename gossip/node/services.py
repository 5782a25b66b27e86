"""What runs beside the learning for whoever watches it: begun again when it fails, and never its end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from gossip import __version__
from gossip.telemetry.containment import Containment, tell

if TYPE_CHECKING:
    from gossip.node.setup import Setup
    from gossip.page.serving import Live
    from gossip.telemetry.web import Web

PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
"""Between two beginnings: whoever has moved the obstacle away waits a minute at most."""

PAGE_OPTION = "--page"

PAGE_S = 0.25
"""How soon the page is given what it wants, which is seldom."""

TERMINAL_S = 0.5
"""How fresh a terminal's figures are."""

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


class Page:
    """The node's page: given the newest status whenever somebody looks, until it is closed.

    Raises:
        SettingError: it cannot be served at the address.
    """

    def __init__(
        self,
        address: str,
        setup: Setup,
        status: Callable[[], Mapping[str, Any]],
        contained: Containment,
    ) -> None:
        from gossip.page.of_node import NodeStory  # costs half a second, seldom wanted
        from gossip.page.rendering import nothing_yet
        from gossip.page.serving import Live

        self._story = NodeStory(setup.options.home, lead=_lead(setup))
        self._status = status
        self._contained = contained
        first = nothing_yet(setup.membership.me.name, _lead(setup))
        self._live: Live = Live(address, option=PAGE_OPTION, shown=first, contained=contained)
        self._offer()
        tell(logging.INFO, f"this node's page: {self._live.url}")

    async def run(self) -> None:
        """Give the page what it wants, until cancelled."""
        while True:
            if self._live.wanted:
                self._offer()
            await trio.sleep(PAGE_S)

    async def close(self) -> None:
        """Show how it has ended, and stop listening."""
        self._offer(last=True)
        # It waits for the viewers a moment; a second Ctrl-C does not wait for it.
        await trio.to_thread.run_sync(self._live.close, abandon_on_cancel=True)

    def _offer(self, *, last: bool = False) -> None:
        with self._contained("page not drawn"):
            began_s = time.thread_time()
            said = self._status()
            self._live.offer(
                lambda: self._story.document(said), took_s=time.thread_time() - began_s, last=last
            )


async def show_on_terminal(status: Callable[[], Mapping[str, Any]], contained: Containment) -> None:
    """Keep the node's figures below the log where that is a terminal, until cancelled."""
    try:
        if not sys.stderr.isatty():
            return
    except (AttributeError, OSError, ValueError):  # it is closed, or something that can only be written to
        return
    # What draws costs a tenth of a second, and most nodes have no terminal.
    from gossip.telemetry.terminal import on_terminal

    shown = on_terminal()
    if shown is None:
        return
    try:
        while True:
            with contained("terminal not drawn"):
                shown.figures.note(status())
            await trio.sleep(TERMINAL_S)
    finally:
        shown.close()


def check_page(address: str, *, free: bool) -> None:
    """Raise `SettingError` where no page could be served at `address`, see `gossip.telemetry.web.check_address`."""
    from gossip.page.serving import bound, require_packages
    from gossip.telemetry.addresses import parsed

    require_packages(PAGE_OPTION)
    parsed(address, PAGE_OPTION)
    if free:
        bound(address, PAGE_OPTION).close()


def _lead(setup: Setup) -> str:
    membership = setup.membership
    settings = membership.settings
    where = "everybody" if membership.everybody else f"{settings.topology.kind} graph"
    said = (
        settings.algorithm,
        where,
        f"{len(membership.peers)} peers",
        f"{settings.stop.rounds} rounds",
        "gossip-node",
    )
    return " · ".join(said)
