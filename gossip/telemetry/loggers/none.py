"""Nobody but metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossip.telemetry.loggers.base import Logger


class Nobody(Logger):
    """Forgets what it is told."""

    def log(self, entry: Mapping[str, Any]) -> None:
        """Do nothing."""
