"""Which messages exist, what their fields may hold, and the three that belong to the connection itself.

A message class becomes sendable with one line, `register(Class)`. Its dataclass fields are read once and turned
into checks, so that a received body has exactly these keys with exactly these types, within bounds.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from gossip.errors import PeerError, ProtocolMisuse, SettingError
from gossip.protocols.base import Message, Protocol
from gossip.protocols.settings import PROTOCOLS

INTEGER_MIN = -(2**31)
INTEGER_MAX = 2**53
"""Every msgpack library holds these exactly, those that only know doubles included."""
STRING_CHARACTERS_MAX = 4096
BYTES_MAX = 16 * 1024
ITEMS_MAX = 4096
KIND_CHARACTERS_MAX = 32

Check = Callable[[Any], Any]
"""Returns the value as it is used, or raises `ValueError` with a clause that says what is valid."""

M = TypeVar("M", bound=type[Message])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """The first message both ways: who I am, what run I am in, and how I understand it."""

    kind: ClassVar[str] = "hello"
    agreement: tuple[tuple[str, str], ...]
    """Section of the task, and the digest of its settings: a mismatch names the sections that differ."""
    instance: str
    """Random, new with every start of the process: tells a restart from a second connection."""
    peers_digest: str
    """Of the peers file. A difference is only a warning: files are changed machine by machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """The peer with the smaller name takes this connection; from here on it may be used."""

    kind: ClassVar[str] = "welcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """I am alive. The stamps give the other side the round-trip time without a second message."""

    kind: ClassVar[str] = "heartbeat"
    stamp_us: int
    """The sender's clock when it sent this."""
    echo_us: int
    """`stamp_us` of the last heartbeat that came from the other side, 0 for none."""
    held_us: int
    """How long ago that one came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye(Message):
    """The last message of an orderly end."""

    kind: ClassVar[str] = "goodbye"
    reason: str
    """leaving, duplicate, replaced or refused."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncMessage(Message):
    """A model that you sent does not follow the last one that I have of you: let the next begin anew."""

    kind: ClassVar[str] = "resync"


@dataclass(frozen=True, slots=True)
class MessageType:
    """A registered message class and the checks of its plain fields."""

    message_class: type[Message]
    transport: bool
    in_order: bool
    fields: Mapping[str, Check]

    def plain_fields(self, message: Message) -> dict[str, Any]:
        """Return what goes into the body. Raises `ProtocolMisuse` for a value that may not travel."""
        body = {}
        for name, check in self.fields.items():
            value = _plain(getattr(message, name))
            try:
                body[name] = check(value)
            except ValueError as error:
                raise ProtocolMisuse(f"field '{name}' of a '{message.kind}' message {error}") from None
        return body

    def check_body(self, body: object) -> dict[str, Any]:
        """Return a received body's fields. Raises `PeerError` where a key or a value is not as declared."""
        kind = self.message_class.kind
        if type(body) is not dict or body.keys() != self.fields.keys():
            wanted = ", ".join(self.fields) or "none"
            raise PeerError(
                "garbage", f"a '{kind}' message has not exactly the fields it should have: {wanted}"
            )
        checked = {}
        for name, check in self.fields.items():
            try:
                checked[name] = check(body[name])
            except ValueError as error:
                raise PeerError("garbage", f"field '{name}' of a '{kind}' message {error}") from None
        return checked


_TYPES: dict[str, MessageType] = {}


def register(message_class: M, *, transport: bool = False) -> M:
    """Make a message class sendable; usable as a decorator.

    Args:
        message_class: a frozen dataclass with a `kind`, whose fields are int, float, str, bytes, bool, tuples of them
            or `X | None`, and `model` where it `carries_model`.
        transport: it belongs to connections, not to a protocol (for the byte counts).

    Raises:
        ProtocolMisuse: a field's type cannot travel, or the kind is taken.
    """
    kind = message_class.kind
    if not 0 < len(kind) <= KIND_CHARACTERS_MAX:
        raise ProtocolMisuse(f"message kind '{kind}' must have 1 to {KIND_CHARACTERS_MAX} characters")
    known = _TYPES.get(kind)
    if known is not None and known.message_class is not message_class:
        raise ProtocolMisuse(f"message kind '{kind}' is registered twice")
    hints = typing.get_type_hints(message_class)
    names = [field.name for field in dataclasses.fields(message_class)]
    if message_class.carries_model != ("model" in names):
        raise ProtocolMisuse(f"message '{kind}' must have a field 'model' exactly if it carries one")
    checks = {name: _check_for(hints[name], f"{kind}.{name}") for name in names if name != "model"}
    _TYPES[kind] = MessageType(message_class, transport, message_class.in_order, checks)
    return message_class


def register_messages(protocol: type[Protocol]) -> None:
    """Make what a protocol's peers say to each other sendable. It may be a user's own, whose file has changed since.

    Raises:
        SettingError: a field's type cannot travel, or a kind is one of ours.
    """
    for message_class in protocol.messages:
        if message_class.kind not in _OURS:
            _TYPES.pop(message_class.kind, None)  # one run's; two runs of a process follow each other
        try:
            register(message_class)
        except ProtocolMisuse as error:
            raise SettingError(f"[protocol] {protocol.__name__}: {error}") from None


def type_of(kind: str) -> MessageType | None:
    """Return the registered type called `kind`, if there is one."""
    return _TYPES.get(kind)


def _plain(value: Any) -> Any:
    """Turn numpy's scalars, which protocols may have drawn, into Python's."""
    if isinstance(value, (bool, int, float, str, bytes, tuple)) or value is None:
        return float(value) if isinstance(value, float) else value
    try:
        return operator.index(value)
    except TypeError:
        return value


def _check_for(hint: Any, where: str) -> Check:
    """Compile a field's type into its check."""
    if hint in _SCALAR_CHECKS:
        return _SCALAR_CHECKS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _tuple_check(_check_for(arguments[0], where))
    if origin is tuple and arguments:
        return _record_check([_check_for(argument, where) for argument in arguments])
    if origin in (typing.Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        inner = _check_for(next(a for a in arguments if a is not type(None)), where)
        return lambda value: None if value is None else inner(value)
    raise ProtocolMisuse(f"message field {where}: type {hint} cannot travel")


def _integer(value: Any) -> int:
    if type(value) is not int or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ValueError(f"must be an integer from {INTEGER_MIN} to 2^53, not {_shown(value)}")
    return value


def _number(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"must be a finite float, not {_shown(value)}")
    return value


def _string(value: Any) -> str:
    if type(value) is not str or len(value) > STRING_CHARACTERS_MAX:
        raise ValueError(
            f"must be a string of at most {STRING_CHARACTERS_MAX} characters, not {_shown(value)}"
        )
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > BYTES_MAX:
        raise ValueError(f"must be at most {BYTES_MAX} bytes, not {_shown(value)}")
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"must be true or false, not {_shown(value)}")
    return value


_SCALAR_CHECKS: dict[Any, Check] = {int: _integer, float: _number, str: _string, bytes: _bytes, bool: _truth}


def _tuple_check(inner: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) > ITEMS_MAX:
            raise ValueError(f"must be a list of at most {ITEMS_MAX} items, not {_shown(value)}")
        return tuple([inner(_plain(item)) for item in value])

    return check


def _record_check(inner: list[Check]) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) != len(inner):
            raise ValueError(f"must be a list of exactly {len(inner)} items, not {_shown(value)}")
        return tuple([check(_plain(item)) for check, item in zip(inner, value, strict=True)])

    return check


def _shown(value: Any) -> str:
    # A stranger's containers are not printed: their text could be long, and is of no use.
    if isinstance(value, (int, float, str, bytes)):
        return ascii(value)[:40]
    return type(value).__name__


for _transport in (Hello, Welcome, Heartbeat, Goodbye, ResyncMessage):
    register(_transport, transport=True)
for _choice in PROTOCOLS.ours():
    for _message_class in _choice.model_validate({}).load().messages:
        register(_message_class)
_OURS = frozenset(_TYPES)
