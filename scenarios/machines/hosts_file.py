"""`--hosts FILE`: the machines, one a line: how ssh calls it, where its peers are found, and its Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossip.errors import SettingError
from gossip.net.address import parse_address
from gossip.text_files import numbered_lines
from scenarios.machines.connection import Place

HOSTS_MAX = 1000
PYTHON = "python3"


@dataclass(frozen=True, slots=True)
class Line:
    """One machine."""

    target: str
    """What ssh is given: HOST or USER@HOST, or a name of ~/.ssh/config."""
    place: Place
    python: str


def read_hosts(path: Path) -> list[Line]:
    """Read a hosts file.

    Raises:
        SettingError: it cannot be read, or says something else; names file and line.
    """
    lines = []
    for number, text in numbered_lines(path):
        words = text.split()
        where = f"{path}, line {number}"
        if len(words) > 3 or words[0].startswith("-"):
            raise SettingError(
                f"{where}: must be HOST or USER@HOST, then perhaps an ADDRESS, then perhaps its PYTHON"
            )
        target, *rest = words
        address = rest[0] if rest else target.rpartition("@")[2]
        try:
            parse_address(f"{address}:1")
        except ValueError as error:
            raise SettingError(f"{where}: {error}") from None
        lines.append(Line(target, Place(target, address), rest[1] if len(rest) > 1 else PYTHON))
    if not lines:
        raise SettingError(f"--hosts {path}: names no machine")
    if len(lines) > HOSTS_MAX:
        raise SettingError(f"--hosts {path}: {len(lines)} machines, more than {HOSTS_MAX}")
    if len({line.target for line in lines}) != len(lines):
        raise SettingError(
            f"--hosts {path}: names a machine twice; a machine takes as many peers as its cores ask for"
        )
    return lines
