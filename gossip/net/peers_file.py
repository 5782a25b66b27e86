"""The peers file: who takes part, where they listen, and the certificates that prove it.

It is `authorized_keys` and `hosts` in one: the certificates in it are the only trust anchors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gossip.errors import SettingError
from gossip.net.address import check_name, format_address, parse_address
from gossip.net.certificates import parse_certificate_text

_FILE_BYTES_MAX = 64 * 1024 * 1024
"""Room for more than 100,000 peers."""


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """One line of the file."""

    name: str
    host: str
    port: int
    certificate: bytes | None
    """DER; None only where the file was read with `insecure`."""
    line: int

    @property
    def address(self) -> str:
        """host:port, an IPv6 host in brackets."""
        return format_address(self.host, self.port)


class PeersFile:
    """All entries, sorted by name, with look-up by name and by certificate."""

    def __init__(self, path: Path, entries: list[PeerEntry]) -> None:
        self.path = path
        self.entries = tuple(sorted(entries, key=lambda entry: entry.name))
        self.names = tuple(entry.name for entry in self.entries)
        self._by_name = {entry.name: entry for entry in self.entries}
        self._by_certificate = {e.certificate: e for e in self.entries if e.certificate is not None}

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[PeerEntry]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def find(self, name: str) -> PeerEntry | None:
        """Return the entry called `name`, if there is one."""
        return self._by_name.get(name)

    def find_certificate(self, der: bytes) -> PeerEntry | None:
        """Return the entry with exactly this certificate, if there is one."""
        return self._by_certificate.get(der)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the file says, comments, order and spacing aside."""
        digest = hashlib.sha256()
        for entry in self.entries:
            certificate = (entry.certificate or b"").hex()
            digest.update(f"{entry.name} {entry.address} {certificate}\n".encode())
        return digest.hexdigest()


def load(path: Path, *, insecure: bool = False) -> PeersFile:
    """Read a peers file.

    Args:
        path: the file.
        insecure: allow lines without a certificate.

    Raises:
        SettingError: one sentence with file and line: unreadable file, wrong number of fields, bad name,
            address or certificate, a duplicate name, address or key, no certificate, or no peers at all.
    """
    entries: list[PeerEntry] = []
    first_line: dict[tuple[str, object], int] = {}
    for number, text in enumerate(_read(path).split("\n"), start=1):
        fields = text.partition("#")[0].split()
        if not fields:
            continue
        try:
            entry, key = _parse_line(fields, number, insecure)
        except ValueError as error:
            raise SettingError(f"{path}:{number}: {error}") from None
        unique: list[tuple[str, object]] = [("name", entry.name), ("address", entry.address)]
        if key is not None:
            unique.append(("key", key))
        for what in unique:
            if what in first_line:
                shown = "" if what[0] == "key" else f" '{what[1]}'"
                raise SettingError(
                    f"{path}:{number}: peer '{entry.name}' has the same {what[0]}{shown} "
                    f"as line {first_line[what]}"
                )
            first_line[what] = number
        entries.append(entry)
    if not entries:
        raise SettingError(f"{path}: names no peers; write one 'name host:port certificate' per line")
    return PeersFile(path, entries)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise SettingError(f"{path}: there is no such peers file") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise SettingError(f"{path}: is longer than {_FILE_BYTES_MAX} bytes; that is no peers file")
    try:
        # utf-8-sig drops the byte order mark that some editors write.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingError(f"{path}:{line}: is not UTF-8 text") from None


def _parse_line(fields: list[str], number: int, insecure: bool) -> tuple[PeerEntry, bytes | None]:
    """Return the entry and its public key, or raise `ValueError` with a clause."""
    if len(fields) < 2:
        raise ValueError(f"{fields[0][:80]!r} stands alone; a line is 'name host:port certificate'")
    if len(fields) > 3:
        raise ValueError(f"unknown field {fields[3][:80]!r}; a line is 'name host:port certificate'")
    name = check_name(fields[0])
    host, port = parse_address(fields[1])
    if len(fields) == 2:
        if not insecure:
            raise ValueError(
                f"peer '{name}' has no certificate; paste the line that 'gossip-node init' printed "
                "on its machine, or give --insecure"
            )
        return PeerEntry(name, host, port, None, number), None
    try:
        der, facts = parse_certificate_text(fields[2])
    except ValueError as error:
        raise ValueError(f"peer '{name}': {error}; paste the line that 'gossip-node init' printed") from None
    if facts.name != name:
        raise ValueError(f"peer '{name}' has the certificate of {facts.name[:80]!r}; are two lines mixed up?")
    return PeerEntry(name, host, port, der, number), facts.public_key
