"""Running a scenario from Python; the command line does no more than this."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gossip.errors import SettingError
from gossip.extras import needed
from scenarios.alone import alone_settings, measured_alone
from scenarios.engines import LOCAL, ahead, elsewhere, load_engine
from scenarios.errors import RunFailed, Stopped
from scenarios.progress import Progress, Quiet, Remembered, State, told
from scenarios.records import Records, told_peer
from scenarios.reports.needs import require_page
from scenarios.run_folder import REPORT, SUMMARY, RunFolder
from scenarios.scenario import ScenarioSettings, load
from scenarios.steps import doing, heard
from scenarios.summary import summarise

DEFAULT_ENGINE = "virtual"

logger = logging.getLogger("scenarios")


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run."""

    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    """One record per peer and evaluation, ready for a DataFrame."""
    peers: list[dict[str, Any]]
    """One record per peer: how it ended."""
    folder: Path

    def to_pandas(self) -> Any:
        """Return `metrics` as a pandas.DataFrame: a row for each peer and evaluation, by round and peer.

        Raises:
            SettingError: pandas is not installed.
        """
        pandas = needed("pandas", "to_pandas() makes a table of pandas", extra="pandas")
        return pandas.DataFrame.from_records(self.metrics)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table that a terminal has, and a link to the page where there is one."""
        from scenarios.reports.notebook import small_page

        page = self.folder / REPORT
        return small_page(self.summary, self.peers, report=str(page) if page.exists() else None)


def run(
    scenario: str | Path,
    *,
    engine: str = DEFAULT_ENGINE,
    seed: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    report: bool = True,
    workers: int | None = 1,
    cluster: str = LOCAL,
    hosts: str | Path | None = None,
) -> Result:
    """Run a scenario to its end.

    Args:
        scenario: a library name or the path of a .toml file.
        engine: "virtual": all peers in this process, under virtual time; "processes": real nodes over TLS.
        seed: instead of the file's.
        overrides: {"SECTION.KEY": value}, or "SECTION.KEY=VALUE" strings.
        out: the run folder; default runs/NAME-SEED-ENGINE.
        force: replace a finished run that is there.
        progress: told what goes on; default: nobody is.
        report: write report.html too, where what writes it is installed.
        workers: processes that compute the virtual engine's learning, with the same outcome to the bit; 1: this one
            alone; None: as many as there are cores, where that pays.
        cluster: "local", or ray://HOST:PORT: the processes of "processes" are started on the machines of that cluster.
        hosts: a file of machines that have them instead, reached by ssh.

    Raises:
        gossip.errors.UserError: a setting, file or folder is wrong; one sentence.
        scenarios.errors.RunFailed: a peer failed, or none is left; one sentence that names it and its log, or what was
            measured until then.
    """
    began_s = time.monotonic()
    report = report and _can_report()
    watching = Remembered(progress or Quiet())
    try:
        here = cluster == LOCAL and hosts is None
        with heard(watching.step), ahead(engine, here=here):
            # What is wrong with a scenario is said before torch is loaded.
            strings = () if overrides is None or isinstance(overrides, Mapping) else tuple(overrides)
            values = overrides if isinstance(overrides, Mapping) else None
            settings = load(scenario, seed=seed, overrides=strings, values=values)
            doing("loading torch and the engine")
            start = load_engine(engine)
            if not here:
                start = elsewhere(start, engine, cluster, None if hosts is None else Path(hosts))
            alone = alone_settings(settings) if settings.scenario.alone else None
            default = Path("runs") / f"{settings.scenario.name}-{settings.seed}-{engine}"
            folder = RunFolder(Path(out) if out is not None else default, force=force)
            doer = partial(start, workers=workers)
            return _into(
                folder, settings, doer, watching, engine=engine, alone=alone, report=report, began_s=began_s
            )
    finally:
        watching.close()


def _into(
    folder: RunFolder,
    settings: ScenarioSettings,
    start: Callable[[ScenarioSettings, Path, Progress], Records],
    watching: Remembered,
    *,
    engine: str,
    alone: ScenarioSettings | None,
    report: bool,
    began_s: float,
) -> Result:
    """Run into the folder, or keep there what was measured when it is interrupted; then let go of it."""
    try:
        folder.begin(settings)
        records = start(settings, folder.path, watching)
        summary = summarise(settings, records, engine=engine, wall_seconds=time.monotonic() - began_s)
        if records.nobody_left is not None:
            path = folder.stopped(records, {**summary, "stopped": "nobody left"})
            raise RunFailed(f"{records.nobody_left}; what was measured until then is in {path}")
        if alone is not None:
            doing("measuring what learning alone would have reached")
            with heard(lambda what: None):
                summary["alone"] = measured_alone(settings, alone)
        folder.finish(records, summary)
        if report:
            doing("writing the report")
            _report(folder.path)
    except KeyboardInterrupt:
        _keep(settings, folder, watching.last, engine=engine, wall_seconds=time.monotonic() - began_s)
        raise
    finally:
        folder.release()
    return Result(
        summary,
        [dict(entry) for entry in records.metrics],
        [told_peer(peer, records.scored) for peer in records.peers],
        folder.path,
    )


def _can_report() -> bool:
    try:
        require_page()
    except SettingError as missing:
        logger.warning("no report will be written: %s", missing)
        return False
    return True


def _report(folder: Path) -> None:
    from scenarios.reports.page import write_report  # what it needs, checks need not wait for

    try:
        write_report([folder], folder / REPORT)
    except Exception:  # hours of learning are done and on the disk
        logger.exception("the report could not be written; gossip-scenario report %s tries again", folder)


def _keep(
    settings: ScenarioSettings, folder: RunFolder, last: State | None, *, engine: str, wall_seconds: float
) -> None:
    """Keep what a run had measured when it was stopped.

    Raises:
        Stopped: with what there was. Nothing where there was nothing, or it could not be kept.
    """
    if last is None or last.so_far is None or last.score_mean is None or (folder.path / SUMMARY).exists():
        return
    try:
        records = last.so_far()
        summary = summarise(settings, records, engine=engine, wall_seconds=wall_seconds)
        path = folder.stopped(records, {**summary, "stopped": "interrupted"})
    except Exception:  # it was in the middle of something
        logger.exception("what was measured so far could not be kept")
        return
    raise Stopped(f"round {last.rounds_mean:.0f} of {settings.stop.rounds}: {told(last)}", path)
