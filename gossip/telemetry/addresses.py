"""Where something is served for whoever watches: HOST:PORT of an option, this machine only unless it says otherwise."""

from __future__ import annotations

import ipaddress
import logging
import socket

from gossip.errors import SettingError
from gossip.telemetry.containment import tell

LOOPBACK = "127.0.0.1"
PORT_MAX = 65535


def parsed(address: str, option: str) -> tuple[str, int]:
    """Return host and port.

    Raises:
        SettingError: it is none; says `option`.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        raise SettingError(
            f"{option} {address}: must be HOST:PORT or a port alone, e.g. 127.0.0.1:9100 or 9100"
        )
    if len(port) > 5 or int(port) > PORT_MAX:
        raise SettingError(f"{option} {address}: {port} is no port; valid: 0 to {PORT_MAX}, 0 for a free one")
    return host.strip("[]") or LOOPBACK, int(port)


def family_of(host: str, port: int) -> socket.AddressFamily:
    """Return IPv4 or IPv6. Raises `OSError` for a name that nobody knows."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can come there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tell_who_may_read(address: str, option: str) -> None:
    """Say so where others than this machine can."""
    if not is_loopback(parsed(address, option)[0]):
        tell(
            logging.WARNING,
            f"{option} {address}: whoever reaches this address may read; leave the host out for this machine only",
        )
