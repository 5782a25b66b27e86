"""Byte streams over a socket, with TLS and without, made for moving tensors.

`trio.SSLStream` moves at most 16 KiB a call through several copies. Here plaintext goes straight out of and into the
tensor's memory, and ciphertext in long pieces between an `ssl.MemoryBIO` and the socket: fewer system calls than a
plain `ssl` socket, which reads and writes one 16 KiB record at a time. The socket is tried first and waited for only
when it would block, because a turn of the event loop costs as much as encrypting 64 KiB.

One task may receive while another sends. Where TLS itself has something to say while receiving (an alert, a key
update), it goes out under the same lock as everything else.
"""

from __future__ import annotations

import abc
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from gossip.errors import NetworkError, PeerError
from gossip.net.upload import SHORT_BYTES, Upload
from gossip.wire.frames import Buffer

RECEIVED_PIECE_BYTES = 512 * 1024
"""The most ciphertext taken by one system call; at 1 MiB it no longer fits the cache."""

SENT_PIECE_BYTES = 256 * 1024
"""Plaintext encrypted before the socket is given something. The other side decrypts one piece while we encrypt the
next, which decides how long a model of a megabyte takes; shorter pieces wake it too often."""

GUARDED_PIECE_BYTES = 16 * 1024
"""Until a connection is in use: hundreds may wait at one time, and OpenSSL keeps memory for the longest piece."""

DISCARDED_PIECE_BYTES = 16 * 1024
"""Of what a connection that has ended still brings."""

TURN_BYTES = 1024 * 1024
"""After so many bytes without waiting, other tasks get a turn."""

CRUMB_BYTES = 256
"""A piece of plaintext shorter than this, in the middle of what is awaited, costs more to take than it brings."""

CRUMBS_PER_TURN = 256
"""After so many, other tasks get a turn: they may lie in one piece of ciphertext, and taking them needs no wait."""

_HANDSHAKE_RECORD = 22
_RECORD_HEAD_BYTES = 5
_RECORD_BYTES_MAX = 16 * 1024
"""RFC 8446 §5.1: one byte of type, two of version, two of length, which is at most 2^14."""

_ALERT_TIMEOUT_S = 1.0
"""For the one alert that tells the other side why its handshake failed."""


Turn: TypeAlias = Callable[[], Awaitable[None]] | None
"""Awaited before each step of a handshake: steps are long, and many may be ready at one time."""


class EndOfStream(Exception):
    """The other side said, in an orderly way, that nothing more comes."""


class Stream(abc.ABC):
    """One connection's bytes. Every method may raise `NetworkError`."""

    on_input: Callable[[], None] | None = None
    """Called whenever bytes have come: the sign of life that deadlines are moved by."""

    crumbs = 0
    """Reads of `receive_into` that brought little and did not fill its buffer. Whoever counts them sets it to 0."""

    write_timeout_s = float("inf")
    """How long the other side may take nothing while it is given something."""

    upload: Upload | None = None
    """What all connections of this peer may send together; None: as much as they can."""

    def __init__(self, transport: trio.SocketStream) -> None:
        self._transport = transport
        self._socket = transport.socket
        self._send_lock = trio.Lock()
        self._send_broken = False
        self._sent_in_turn = 0
        self._received_in_turn = 0

    @abc.abstractmethod
    def use(self) -> None:
        """Note that the connection is in use from here on, and may take memory to be fast."""

    @abc.abstractmethod
    async def receive_into(self, view: memoryview) -> None:
        """Fill `view` wholly. Raises `EndOfStream` where the stream ends."""

    @abc.abstractmethod
    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all buffers, in order. If this is cancelled, nothing can be sent after it."""

    async def finish(self) -> None:
        """Say that nothing more will be sent; receiving goes on."""
        try:
            await self._transport.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise _network_error(error) from error

    async def discard(self) -> None:
        """Receive and forget until the other side has ended the stream, or it breaks; nothing is decrypted."""
        forgotten = memoryview(bytearray(DISCARDED_PIECE_BYTES))
        try:
            while await self._receive_raw(forgotten):
                pass
        except NetworkError:
            return

    def close(self) -> None:
        """Release the socket at once."""
        self._socket.close()

    async def _send_raw(self, data: bytes | memoryview) -> None:
        """Send under the lock; a send that did not end leaves a gap that nothing may follow."""
        if self._send_broken:
            raise NetworkError("an earlier message was cut off")
        self._send_broken = True
        try:
            if self.upload is None:
                await self._write_all(memoryview(data))
            else:
                await self._write_slowly(memoryview(data), self.upload)
        except (trio.ClosedResourceError, OSError) as error:
            raise _network_error(error) from error
        self._send_broken = False

    async def _write_slowly(self, data: memoryview, upload: Upload) -> None:
        for piece in upload.pieces(data):
            # Where nothing would be taken, the others need not wait for it.
            await self._wait_writable()
            await upload.take(len(piece), short=len(data) <= SHORT_BYTES)
            await self._write_all(piece)

    async def _write_all(self, data: memoryview) -> None:
        file = self._socket.fileno()
        start = 0
        while start < len(data):
            try:
                start += os.write(file, data[start:])
            except BlockingIOError:
                await self._wait_writable()
                self._sent_in_turn = 0
        self._sent_in_turn += len(data)
        if self._sent_in_turn > TURN_BYTES:
            self._sent_in_turn = 0
            await trio.lowlevel.checkpoint()

    async def _wait_writable(self) -> None:
        with trio.move_on_after(self.write_timeout_s):
            await trio.lowlevel.wait_writable(self._socket)
            return
        raise NetworkError(f"took nothing for {self.write_timeout_s:g} s")

    async def _lock_sending(self) -> None:
        # The lock is nearly always free, and acquiring it the usual way costs a turn of the event loop.
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()

    async def _receive_raw(self, buffer: memoryview) -> int:
        """Receive what is there into `buffer`, at least one byte; 0 is the end."""
        try:
            count = await self._read_some(buffer)
        except (trio.ClosedResourceError, OSError) as error:
            raise _network_error(error) from error
        if count and self.on_input is not None:
            self.on_input()
        return count

    async def _read_some(self, buffer: memoryview) -> int:
        if self._received_in_turn > TURN_BYTES:
            self._received_in_turn = 0
            await trio.lowlevel.checkpoint()
        file = self._socket.fileno()
        while True:
            try:
                count = os.readv(file, [buffer])
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                self._received_in_turn = 0
                continue
            self._received_in_turn += count
            return count


class PlainStream(Stream):
    """Without TLS, for `--insecure`."""

    def use(self) -> None:
        """Do nothing: it takes no memory of its own."""

    async def receive_into(self, view: memoryview) -> None:
        """Fill `view` straight from the socket."""
        filled = 0
        while filled < len(view):
            count = await self._receive_raw(view[filled:])
            if not count:
                raise EndOfStream
            filled += count

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send small buffers joined, long ones from their own memory."""
        await self._lock_sending()
        try:
            small: list[Buffer] = []
            for buffer in buffers:
                if len(buffer) <= 4096:
                    small.append(buffer)
                    continue
                if small:
                    await self._send_raw(b"".join(small))
                    small = []
                await self._send_raw(buffer)
            if small:
                await self._send_raw(b"".join(small))
        finally:
            self._send_lock.release()


class TlsStream(Stream):
    """With TLS. Call `handshake` first."""

    def __init__(
        self,
        transport: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        ciphertext: memoryview,
    ) -> None:
        """Make a stream.

        Args:
            transport: the socket.
            context: what TLS is to trust.
            server_side: whether we were called.
            ciphertext: memory that all streams of one thread share: what is received stays in it for no wait.
        """
        super().__init__(transport)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._ciphertext = ciphertext
        self._piece = ciphertext[:GUARDED_PIECE_BYTES]

    def use(self) -> None:
        """Receive in long pieces from here on."""
        self._piece = self._ciphertext

    async def hear_out(self) -> None:
        """Receive the other side's first record wholly, or what shows that it sends no such thing."""
        head = bytearray()
        wanted = _RECORD_HEAD_BYTES
        while self._incoming.pending < wanted:
            count = await self._feed()
            head += self._piece[: min(count, _RECORD_HEAD_BYTES - len(head))]
            if not count or head[0] != _HANDSHAKE_RECORD:
                return
            if len(head) == _RECORD_HEAD_BYTES:
                wanted = _RECORD_HEAD_BYTES + min(int.from_bytes(head[3:], "big"), _RECORD_BYTES_MAX)

    async def handshake(self, turn: Turn = None) -> bytes:
        """Shake hands; return the other side's certificate (DER).

        Raises:
            PeerError: it showed a certificate that is not trusted, refused ours, or does not speak TLS.
            NetworkError: the connection ended.
        """
        while True:
            try:
                if turn is not None:
                    await turn()
                self._ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as error:
                # The other side should learn why; but it may not be listening.
                with trio.move_on_after(_ALERT_TIMEOUT_S):
                    await self._flush_quietly()
                raise _tls_error(error) from error
        await self._flush()
        return self._ssl.getpeercert(binary_form=True) or b""

    async def receive_into(self, view: memoryview) -> None:
        """Decrypt into `view` until it is full."""
        # The type stubs know only the form that returns bytes.
        read: Callable[[int, memoryview], int] = self._ssl.read  # type: ignore[assignment]
        filled, length = 0, len(view)
        while filled < length:
            try:
                count = read(length - filled, view[filled:])
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await self._flush()
                await self._feed()
                continue
            except ssl.SSLZeroReturnError:
                raise EndOfStream from None
            except ssl.SSLError as error:
                raise _tls_error(error) from error
            if not count:
                raise EndOfStream
            filled += count
            if count < CRUMB_BYTES and filled < length:
                self.crumbs += 1
                if self.crumbs % CRUMBS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Encrypt and send; small buffers leave together with what follows them."""
        await self._lock_sending()
        try:
            for buffer in buffers:
                for start in range(0, len(buffer), SENT_PIECE_BYTES):
                    self._encrypt(buffer[start : start + SENT_PIECE_BYTES])
                    if self._outgoing.pending >= SENT_PIECE_BYTES:
                        await self._send_raw(self._outgoing.read())
            if self._outgoing.pending:
                await self._send_raw(self._outgoing.read())
        finally:
            self._send_lock.release()

    def _encrypt(self, piece: Buffer) -> None:
        try:
            start = self._ssl.write(piece)
            while start < len(piece):
                start += self._ssl.write(piece[start:])
        except ssl.SSLError as error:
            raise _tls_error(error) from error

    async def finish(self) -> None:
        """Send TLS' own goodbye, so that the other side can tell the end from a cut."""
        async with self._send_lock:
            try:
                self._ssl.unwrap()
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass  # their half of the goodbye is read by whoever receives
            except ssl.SSLError as error:
                raise _tls_error(error) from error
            if self._outgoing.pending:
                await self._send_raw(self._outgoing.read())
        await super().finish()

    async def _flush(self) -> None:
        async with self._send_lock:
            if self._outgoing.pending:
                await self._send_raw(self._outgoing.read())

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except NetworkError:
            return

    async def _feed(self) -> int:
        count = await self._receive_raw(self._piece)
        if count:
            self._incoming.write(self._piece[:count])
        else:
            self._incoming.write_eof()
        return count


def _network_error(error: BaseException) -> NetworkError:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return NetworkError(cause.strerror.lower())
    return NetworkError("the connection is closed")


def _tls_error(error: ssl.SSLError) -> PeerError | NetworkError:
    """Translate OpenSSL's errors by blame; its own texts name source files and mean nothing to users."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError) or "EOF" in reason:
        return NetworkError("the connection was cut")
    about_certificate = "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
    if "ALERT" in reason and about_certificate:
        return PeerError("certificate", "refuses our certificate; is our line in its peers file?")
    if about_certificate:
        return PeerError("certificate", "shows a certificate that is not in our peers file")
    return PeerError("garbage", "what came is not TLS as peers of this network speak it")
