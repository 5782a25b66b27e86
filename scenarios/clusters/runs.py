"""One run of many, and how it is done on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossip.errors import GossipError, SettingError
from scenarios.standings import Standings, Told


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the sweep."""

    scenario: str
    engine: str
    settings: tuple[str, ...]
    """KEY=VALUE of the varied settings."""
    seed: int
    folder: Path

    @property
    def told(self) -> str:
        """What sets it apart, for a sentence."""
        return " ".join((*self.settings, f"seed {self.seed}"))


def do(run: Run, standings: Standings | None = None) -> None:
    """Do a run here, into its folder, and tell meanwhile where it stands.

    Raises:
        SettingError: it came to nothing; whose mistake it was stands in the sentence.
    """
    from scenarios.api import run as run_scenario

    try:
        run_scenario(
            run.scenario,
            engine=run.engine,
            seed=run.seed,
            overrides=run.settings,
            out=run.folder,
            force=True,
            report=False,
            progress=None if standings is None else Told(standings.file(run.folder)),
        )
    except GossipError as error:
        # The pool brings exceptions back by their arguments; ours have more than a sentence.
        raise SettingError(f"{run.told}: {error}") from None
