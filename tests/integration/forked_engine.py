"""`gossip-scenario` as a program of the fork server: engines that may be killed, and start at once."""

from __future__ import annotations

from scenarios.cli import call as run

__all__ = ["run"]
