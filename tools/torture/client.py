"""The wire from its description alone: TLS, frames and documents, written without a line of the node's own code.

Only `ssl`, `socket`, `msgpack` and `cryptography` are imported, so that a mistake which the node's reader and writer
share does not hide itself here, and so that nothing keeps this side from saying what the node's writer refuses to say.

    frame      length u32 | kind u8 | flags u8 | zero u16 (big-endian), then the payload
    CONTROL 1  a whole document     HEAD 2  a document up to its first tensor     DATA 3  what follows     CANCEL 4
    document   {v, type, run, space, sender, seq, body} and, with a model, {codec, tensors, data: [bin]}
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

CONTROL, HEAD, DATA, CANCEL = 1, 2, 3, 4
PIECE_BYTES = 512 * 1024
PATIENCE_S = 10.0
"""For whatever the other side is to answer."""

DIAL_AGAIN_S = 0.05


class Gone(Exception):
    """The other side closed, refused, or said nothing for too long; the text says which."""


@dataclass(frozen=True)
class Key:
    """An Ed25519 key with its self-signed certificate, in one PEM file."""

    name: str
    path: Path
    certificate_der: bytes

    def peers_line(self, address: str) -> str:
        """Return the line of a peers file."""
        return f"{self.name}  {address}  {base64.b64encode(self.certificate_der).decode()}"


def make_key(path: Path, name: str, *, serial: int = 1) -> Key:
    """Make a key and write it to `path`."""
    key = Ed25519PrivateKey.generate()
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .sign(key, None)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    path.chmod(0o600)
    return Key(name, path, certificate.public_bytes(Encoding.DER))


def load_key(path: Path) -> Key:
    """Read what `make_key` wrote."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Key(str(name.value), path, certificate.public_bytes(Encoding.DER))


def tls(key: Key | None, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return a client's context; whom it talks to is all the same to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if key is not None:
        context.load_cert_chain(key.path)
    return context


def frame(kind: int, payload: bytes, *, length: int | None = None, flags: int = 0, zero: int = 0) -> bytes:
    """Return a frame; with a `length` that is not the payload's, a false one."""
    return struct.pack(">IBBH", len(payload) if length is None else length, kind, flags, zero) + payload


def bin_header(count: int) -> bytes:
    """Return the msgpack header of a `bin`."""
    if count < 2**8:
        return struct.pack(">BB", 0xC4, count)
    return struct.pack(">BH", 0xC5, count) if count < 2**16 else struct.pack(">BI", 0xC6, count)


@dataclass
class Heard:
    """A document that came, and the bytes of its first tensor where it had one."""

    kind: str
    body: Mapping[str, Any]
    document: Mapping[str, Any]
    tensor: bytes | None


class Session:
    """One connection. `connect`, `greet`, `wait_for_welcome`, then `listen` and say anything."""

    def __init__(
        self, key: Key | None, address: tuple[str, int], *, source: str = "127.0.0.1", name: str | None = None
    ) -> None:
        self.key = key
        self.name = name or (key.name if key else "nobody")
        self.address, self._source = address, source
        self.shape: list[int] = []
        """Of the run's model, for those who need it."""
        self.theirs: Mapping[str, Any] = {}
        """Their hello: run, space and agreement are copied from it."""
        self.ended: str | None = None
        self.goodbye: str | None = None
        self.sent_bytes = 0
        self._closed = False
        self._seq = 0
        self._lock = threading.Lock()
        self._socket: socket.socket | ssl.SSLSocket | None = None

    # --- beginning ---

    def dial(self) -> socket.socket:
        """Open the plain connection; where nobody listens, once somebody does: a node may be about to start."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                raw = socket.create_connection(
                    self.address, timeout=PATIENCE_S, source_address=(self._source, 0)
                )
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(DIAL_AGAIN_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = raw
        return raw

    def secure(self, context: ssl.SSLContext | None = None) -> None:
        """Shake hands. A refused certificate may show only later, when something is read."""
        raw = self._socket or self.dial()
        self._socket = (context or tls(self.key)).wrap_socket(raw)

    def greet(self, **changes: Any) -> None:
        """Read their hello, and answer with one that agrees with it, but for `changes` of its body."""
        self.theirs = self._next_document(("hello",))
        self.say_hello(**changes)

    def say_hello(self, **changes: Any) -> None:
        body = {"agreement": self.theirs["body"]["agreement"], "instance": f"{id(self)}", "peers_digest": ""}
        self.control("hello", {**body, **changes})

    def wait_for_welcome(self) -> None:
        """Wait until the peer with the smaller name, which is never this one, has taken the connection."""
        self._next_document(("welcome",))

    def open(self) -> Session:
        """Come as far as an honest peer would."""
        self.secure()
        self.greet()
        self.wait_for_welcome()
        return self

    # --- saying ---

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        if self._socket is None or self.ended is not None:
            raise Gone(self.ended or "not connected")
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError as error:
            self.ended = self.ended or f"sending: {error}"
            raise Gone(self.ended) from None
        self.sent_bytes += len(data)

    def document(self, kind: str, body: Any, **changes: Any) -> dict[str, Any]:
        """Return a document that is in order, but for `changes`."""
        self._seq += 1
        return {
            "v": 1,
            "type": kind,
            "run": self.theirs.get("run", ""),
            "space": self.theirs.get("space", ""),
            "sender": self.name,
            "seq": self._seq,
            "body": body,
            **changes,
        }

    def control(self, kind: str, body: Any, **changes: Any) -> None:
        """Send a message without a model."""
        self.raw(self.control_frame(kind, body, **changes))

    def control_frame(self, kind: str, body: Any, **changes: Any) -> bytes:
        """Return the frame of a message without a model."""
        return frame(CONTROL, msgpack.packb(self.document(kind, body, **changes)))

    def head_frame(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        dtype: str = "float32",
        shape: Sequence[int],
        codec: str = "float32",
        tensors: Any = None,
        **changes: Any,
    ) -> bytes:
        """Return the HEAD frame of a message with one tensor (or what `tensors` describes)."""
        described = [[dtype, list(shape)]] if tensors is None else tensors
        document = self.document(kind, body, codec=codec, tensors=described, **changes)
        packed = msgpack.packb({**document, "data": []})
        count = len(described) if isinstance(described, list) else 1
        # The last byte is the header of an empty array; with the number of tensors it is that of a head.
        return frame(HEAD, packed[:-1] + bytes([0x90 | (count & 15)]))

    def model(self, kind: str, body: Mapping[str, Any], tensor: bytes, **changes: Any) -> None:
        """Send a message with a float32 vector."""
        head = self.head_frame(kind, body, shape=[len(tensor) // 4], **changes)
        data = bin_header(len(tensor)) + tensor
        pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
        self.raw(head + b"".join(frame(DATA, piece) for piece in pieces))

    # --- hearing ---

    def listen(self, hear: Callable[[Session, Heard], None], *, heartbeat_s: float = 1.0) -> None:
        """Read everything in a thread, and show signs of life in another, until the connection ends."""
        threading.Thread(target=self._listen, args=(hear,), daemon=True).start()
        threading.Thread(target=self._beat, args=(heartbeat_s,), daemon=True).start()

    def _listen(self, hear: Callable[[Session, Heard], None]) -> None:
        try:
            while True:
                heard = self.hear()
                if heard.kind == "goodbye":
                    self.goodbye = str(heard.body.get("sentence", ""))
                hear(self, heard)
        except Gone as error:
            self.ended = self.ended or str(error)

    def _beat(self, every_s: float) -> None:
        with contextlib.suppress(Gone):
            while self.ended is None:
                self.control(
                    "heartbeat", {"stamp_us": time.monotonic_ns() // 1000, "echo_us": 0, "held_us": 0}
                )
                time.sleep(every_s)

    def hear(self) -> Heard:
        """Read the next whole message."""
        document: dict[str, Any] = {}
        tensor: bytearray | None = None
        wanted = 0
        while True:
            length, kind, _, _ = struct.unpack(">IBBH", self._read(8))
            payload = self._read(length)
            if kind == CONTROL:
                document = msgpack.unpackb(payload)
                return Heard(document["type"], document["body"], document, None)
            if kind == HEAD:
                document = msgpack.unpackb(payload + b"\xc0" * (payload[-1] & 15))
                dtype, shape = document["tensors"][0]
                count = {"float64": 8, "float32": 4, "float16": 2, "int8": 1}.get(dtype, 1)
                for axis in shape:
                    count *= axis
                tensor, wanted = bytearray(), len(bin_header(count)) + count
            elif kind == DATA and tensor is not None:
                tensor += payload
                if len(tensor) >= wanted:
                    return Heard(document["type"], document["body"], document, bytes(tensor[-count:]))
            elif kind == CANCEL:
                tensor = None

    def _next_document(self, kinds: Sequence[str]) -> Mapping[str, Any]:
        heard = self.hear()
        if heard.kind == "goodbye":
            self.goodbye = str(heard.body.get("sentence", ""))
            raise Gone(f"goodbye: {self.goodbye}")
        if heard.kind not in kinds:
            raise Gone(f"a '{heard.kind}' message for {kinds}")
        return heard.document

    def _read(self, count: int) -> bytes:
        assert self._socket is not None
        data = bytearray()
        while len(data) < count:
            try:
                waiting = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
                if not waiting and not select.select([self._socket], [], [], PATIENCE_S)[0]:
                    raise Gone("it says nothing")
                # One TLS connection bears one call at a time.
                with self._lock:
                    if self._closed:
                        raise Gone("closed by this side")
                    piece = self._socket.recv(min(count - len(data), 1 << 20))
            except (OSError, ValueError) as error:
                raise Gone(f"reading: {error}") from None
            if not piece:
                raise Gone("closed")
            data += piece
        return bytes(data)

    def close(self) -> None:
        """End without a word."""
        self.ended = self.ended or "closed by this side"
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the TLS socket's own, after which a thread that still reads takes ciphertext for plain bytes.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            with self._lock:
                self._socket.close()
