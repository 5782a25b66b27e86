"""Measurements for Weights & Biases, kept on this machine: `wandb sync FOLDER/wandb/offline-run-*` is what sends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip.extras import needed
from gossip.telemetry.loggers.base import Logger
from gossip.telemetry.loggers.values import measured


class WeightsAndBiases(Logger):
    """FOLDER/wandb: one run, with accuracy/PEER and so on over the round. A node that comes back begins another.

    Raises:
        SettingError: wandb is not installed.
    """

    def __init__(self, settings: Any, *, folder: Path) -> None:
        super().__init__(settings, folder=folder)
        # It sends its own failures to its makers otherwise, in this mode, too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb = needed("wandb", "[logger] kind = 'wandb' writes with wandb", extra="wandb")

    def begin(self, round: int) -> None:
        """Open a run; nothing about this machine is noted in it."""
        self._run = self._wandb.init(
            project=self.settings.project,
            dir=str(self.folder),
            reinit="create_new",
            settings=self._wandb.Settings(
                mode="offline",
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )
        self._run.define_metric("*", step_metric="round")

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add what was measured of a peer."""
        values = {f"{name}/{entry['peer']}": value for name, value in measured(entry).items()}
        self._run.log({"round": int(entry["round"]), **values})

    def end(self) -> None:
        """Close the run."""
        self._run.finish()
