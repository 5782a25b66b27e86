"""Names and addresses of peers, as they are written in a peers file and on the command line."""

from __future__ import annotations

import ipaddress
import re

NAME_CHARACTERS_MAX = 64
"""The bound X.509 puts on a common name, which holds the peer's name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_LOOKS_NUMERIC = re.compile(r"[0-9.]+")


def check_name(name: str) -> str:
    """Return `name`, or raise `ValueError` with a clause that says what a name may be."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is not a peer name: 1 to {NAME_CHARACTERS_MAX} letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of ``host:port`` or ``[ipv6]:port``; IP addresses come back in their normal form.

    Raises:
        ValueError: a clause that quotes the text and says what is valid.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError(
            f"{text[:80]!r} is not an address: write host:port, e.g. 10.0.0.5:7700 or [::1]:7700"
        )
    if not (
        port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) < 65536
    ):
        raise ValueError(f"{port_text[:20]!r} is not a port: 1 to 65535")
    return _check_host(host), int(port_text)


def _check_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{host[:80]!r} is not an IPv6 address") from None
    if ":" in host:
        raise ValueError(f"{host[:80]!r}: an IPv6 address stands in brackets, as in [::1]:7700")
    if _LOOKS_NUMERIC.fullmatch(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{host[:80]!r} is not an IPv4 address") from None
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host[:80]!r} is not a host name")
    return host.lower()


def format_address(host: str, port: int) -> str:
    """Return what `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
