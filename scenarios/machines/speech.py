"""What engine and host say to each other: a line of JSON, and as many bytes after it as it says. No pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

MESSAGE_BYTES_MAX = 16 << 20
"""Of a line, and of what follows it: the peers file of ten thousand peers is 4 MB."""

PIECE_BYTES_MAX = 1 << 20
"""Of a file, at a time."""

Said: TypeAlias = tuple[dict[str, Any], bytes]


class Garbled(ValueError):
    """The other side says something that is no message."""


def message(said: Mapping[str, Any], data: bytes = b"") -> bytes:
    """Return a message as bytes."""
    return json.dumps({**said, "bytes": len(data)}).encode() + b"\n" + data


class Listener:
    """Bytes as they come, in whatever pieces -> messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def heard(self, data: bytes) -> Iterator[Said]:
        """Yield what is whole now.

        Raises:
            Garbled: it is none, or longer than any.
        """
        self._pending += data
        while (end := self._pending.find(b"\n", 0, MESSAGE_BYTES_MAX)) >= 0:
            said = _parsed(bytes(self._pending[:end]))
            whole = end + 1 + said["bytes"]
            if len(self._pending) < whole:
                return
            following = bytes(self._pending[end + 1 : whole])
            del self._pending[:whole]
            yield said, following
        if len(self._pending) >= MESSAGE_BYTES_MAX:
            raise Garbled("a line without an end")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
        size = said["bytes"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Garbled(f"no message: {line[:80]!r}") from None
    if not isinstance(said, dict) or type(size) is not int or not 0 <= size <= MESSAGE_BYTES_MAX:
        raise Garbled(f"no message: {line[:80]!r}")
    return said
