"""The ready scenarios: their names and what they say of themselves, read without checking any setting."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gossip.config.presets import DEFAULT_ALGORITHM, SEEN

LIBRARY = Path(__file__).parent / "library"
PEERS = 8
"""Where a scenario does not say how many there are."""


def library() -> dict[str, Path]:
    """Return the ready scenarios by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*.toml"))}


def entries() -> list[dict[str, Any]]:
    """Return what `gossip-scenario list` shows of each; all of them are whole, which a test sees to."""
    found = []
    for name, path in library().items():
        table = tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
        algorithm = table.get("algorithm", DEFAULT_ALGORITHM)
        found.append(
            {
                "name": name,
                "peers": table.get("peers", PEERS),
                "algorithm": algorithm,
                "description": table.get("description", ""),
                "seen": SEEN.get(algorithm),
            }
        )
    return found
