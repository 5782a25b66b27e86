"""Runs of scenarios of the library for tables of what must hold: each is done once, and read as often as asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import safetensors.torch
import torch

from scenarios import sweep

Summary = Mapping[str, Any]

SMOKE = ("stop.rounds=4", "scenario.peers=5")
PATIENT = ("protocol.deadline_floor_s=30", "protocol.deadline_share=1")
"""Twenty processes on a few cores are late now and then, which is not what is compared."""


class Row(NamedTuple):
    """One thing that must hold."""

    name: str
    must: str
    measured: str
    ok: bool


class Runs:
    """Runs of one call; finished ones are not done again.

    Args:
        seeds: of each setting.
        engine: "virtual" or "processes".
        out: their folder.
        smoke: four rounds of five peers, one seed: does it run?
    """

    def __init__(self, seeds: Sequence[int], engine: str, out: Path, *, smoke: bool = False) -> None:
        self.seeds = seeds[:1] if smoke else seeds
        self.engine = engine
        self.smoke = smoke
        self._out = out

    def in_engine(self, engine: str) -> Runs:
        """Return the same in another engine."""
        return Runs(self.seeds, engine, self._out, smoke=self.smoke)

    def of(self, scenario: str, *settings: str, first: bool = False) -> list[Summary]:
        """Return the summary of each seed's run; of the first seed's alone with `first`."""
        told = []
        for run in self._planned(scenario, settings, first):
            told.append(json.loads((run.folder / "summary.json").read_text()))
        return told

    def models(self, scenario: str, *settings: str) -> list[torch.Tensor]:
        """Return the final models [P] of the first seed's run, by the peers' names."""
        (run,) = self._planned(scenario, settings, True)
        found = []
        for peer in sorted((run.folder / "peers").iterdir()):
            saved = safetensors.torch.load_file(peer / "model.safetensors")
            found.append(torch.cat([saved[key].flatten() for key in sorted(saved)]))
        return found

    def _planned(self, scenario: str, settings: Sequence[str], first: bool) -> list[sweep.Run]:
        given = {setting.partition("=")[0] for setting in settings}
        real = self.engine == "processes" and "faults.list" not in given
        more = (*(SMOKE if self.smoke else ()), *(PATIENT if real else ()))
        added = [setting for setting in more if setting.partition("=")[0] not in given]
        seeds = self.seeds[:1] if first else self.seeds
        folder = self._out / scenario / self.engine
        runs = sweep.plan(scenario, self.engine, [*settings, *added], seeds, folder)
        for _ in sweep.carry_out(runs, jobs=0 if self.smoke else None, tell=sweep.tell_line):
            pass
        return runs


def accuracy(told: Sequence[Summary], of: str = "mean") -> float:
    """Return the mean over the runs, in %: of the peers' mean, or of the worst ("min")."""
    return 100 * fmean(each["accuracy"][of] for each in told)


def payload(told: Sequence[Summary]) -> float:
    """Return how many bytes of tensors a peer has sent, the mean over peers and runs."""
    return fmean(each["bytes"]["payload"] / each["peers"] for each in told)


def shown(name: str, told: Sequence[Summary]) -> str:
    """Return runs for people."""
    return f"{name} {accuracy(told):.1f} % (worst {accuracy(told, 'min'):.1f}) at {payload(told) / 1e6:.2f} MB a peer"
