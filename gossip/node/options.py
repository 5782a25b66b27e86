"""What a node is told on its command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Arguments of `gossip-node`, not yet checked against any file."""

    peers: Path
    home: Path
    task: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Tables from named options, e.g. {"stop": {"rounds": 20}}."""
    overrides: tuple[str, ...] = ()
    listen: str | None = None
    name: str | None = None
    fresh: bool = False
    insecure: bool = False
    metrics: str | None = None
    page: str | None = None
    as_json: bool = False
    agreeing: bool = False
    """The peers are to agree on statistics: a file of them is not looked for."""
