"""Opening the port where other peers find us, and dialling theirs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import trio

from gossip.errors import NetworkError, SettingError
from gossip.net.address import format_address, is_loopback, parse_address
from gossip.net.peers_file import PeerEntry

ACCEPTED_IN_TURN_MAX = 100
"""Calls taken in one pass of the event loop: some 5 ms."""

ACCEPT_PAUSE_S = 0.1
"""After a call that could not be taken: until then a connection may have ended and left room."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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


async def accept_each(
    listener: trio.SocketListener,
    serve: Callable[[trio.SocketStream], None],
    on_trouble: Callable[[str], None],
) -> None:
    """Call `serve` with everybody who calls, until cancelled.

    Many are taken at one time: whoever is behind thousands in the queue waits for a pass of the event loop for each
    hundred of them, not for each.

    Args:
        listener: where they call.
        serve: must not wait.
        on_trouble: called with a sentence when no call can be taken, as when there are no descriptors left.
    """
    # trio's own `accept` takes one in each pass.
    with socket.socket(fileno=os.dup(listener.socket.fileno())) as queue:
        queue.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(queue)
            for _ in range(ACCEPTED_IN_TURN_MAX):
                try:
                    caller, _ = queue.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        on_trouble(f"cannot take calls: {_told(error)}")
                        await trio.sleep(ACCEPT_PAUSE_S)
                    break  # else the caller is gone already
                serve(trio.SocketStream(trio.socket.from_stdlib_socket(caller)))
            await trio.lowlevel.checkpoint()


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
