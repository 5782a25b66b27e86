"""`report.html`: one page about one or many runs, with everything it shows inside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gossip.errors import SettingError
from gossip.page.rendering import page_of
from gossip.telemetry.progress import human_bytes
from scenarios.reports.document import of_run, of_runs
from scenarios.reports.runs import Run, read_run
from scenarios.reports.terminal import percent

RUNS_MAX = 5000
"""A page of more would be slow to open."""

__all__ = ["Run", "document", "page_environment", "read_run", "render", "write_report"]


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Write the page about the runs in `folders`.

    Raises:
        SettingError: a folder holds no finished run, there are too many, or the page cannot be written.
    """
    if len(folders) > RUNS_MAX:
        raise SettingError(f"{len(folders)} runs are too many for one page; give at most {RUNS_MAX}")
    if path.exists() and path.suffix != ".html":
        raise SettingError(f"{path}: is there already, and no page (.html); give another name")
    page = render([read_run(folder) for folder in folders])
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from None


def page_environment() -> Environment:
    """Return what renders the pages, with the filters that their templates use."""
    environment = Environment(
        loader=PackageLoader("scenarios"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, bytes=lambda value: "–" if value is None else human_bytes(value)
    )
    environment.filters["seconds"] = lambda value: f"{value:.1f} s" if value < 1000 else f"{value:.0f} s"
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:#.3g}"
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the page shows, see `scenarios.reports.document`."""
    return of_run.document(runs[0]) if len(runs) == 1 else of_runs.document(runs)


def render(runs: Sequence[Run]) -> str:
    """Return the page, HTML with nothing to load from elsewhere."""
    return page_of(document(runs))
