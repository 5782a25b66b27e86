"""Opening the port where other peers find us, and dialling theirs."""

from __future__ import annotations

import errno

import trio

from gossip.errors import NetworkError, SettingError
from gossip.net.address import format_address, is_loopback, parse_address
from gossip.net.peers_file import PeerEntry


async def open_listeners(entry: PeerEntry, listen: str | None) -> list[trio.SocketListener]:
    """Listen where the peers file says we are, or at `listen` (host:port).

    An advertised loopback address is bound as it is; for any other the wildcard is bound, because behind a router or
    in a container the advertised address is not one of this machine's own.

    Raises:
        SettingError: the port is taken, or the address is not ours.
    """
    host: str | None
    if listen is not None:
        try:
            host, port = parse_address(listen)
        except ValueError as error:
            raise SettingError(f"--listen: {error}") from None
    else:
        host, port = (entry.host if is_loopback(entry.host) else None), entry.port
    shown = format_address(host or "*", port)
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingError(
                f"cannot listen on {shown}: the port is in use; is another gossip-node running here? "
                "Stop it, or choose another port in the peers file or with --listen"
            ) from error
        raise SettingError(f"cannot listen on {shown}: {_told(error)}") from error


async def dial(entry: PeerEntry) -> trio.SocketStream:
    """Open a TCP connection to a peer. Raises `NetworkError`."""
    try:
        return await trio.open_tcp_stream(entry.host, entry.port)
    except OSError as error:
        raise NetworkError(_told(error)) from error


def remote_address(transport: trio.SocketStream) -> str:
    """Return host:port of the other side, for logs."""
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return "an address that is gone"
    return format_address(str(host), int(port))


def _told(error: BaseException) -> str:
    """Return the operating system's own words; trio wraps one attempt per address in a group."""
    if isinstance(error, BaseExceptionGroup):
        return _told(error.exceptions[0])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _told(error.__cause__) if error.__cause__ is not None else "it failed"
