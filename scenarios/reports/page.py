"""`report.html`: one page about one or many runs, with everything it shows inside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossip.errors import SettingError
from gossip.telemetry.progress import human_bytes
from scenarios.reports.document import of_run, of_runs
from scenarios.reports.runs import Run, read_run
from scenarios.reports.terminal import percent

RUNS_MAX = 5000
"""A page of more would be slow to open."""

FIRST = ("base.js", "words.js", "tables.js", "cards.js", "many.js", "start.js")
"""Scripts that need no charts: what they write is there before the library is read."""

THEN = ("charts.js", "curves.js", "maps.js", "verdicts.js", "page.js")

LIBRARY = ("bokeh.min.js", "bokeh-api.min.js")
"""Bokeh's own files, of those the two that our scripts use."""

__all__ = ["Run", "page_environment", "read_run", "render", "write_report"]


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
    return render_document(document(runs))


def render_document(shown: Mapping[str, Any]) -> str:
    """Return the page of a document. A policy in its head forbids it to load or send anything."""
    scripts = [joined(FIRST), library(), joined(THEN)]
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        page_environment()
        .get_template("page/page.html")
        .render(
            shown=shown,
            # "</script>" within a string would end the block, "<!--" begin another.
            document=Markup(text.replace("<", "\\u003c")),
            style=Markup(_template("page.css")),
            scripts=[Markup(script) for script in scripts],
            policy=policy(scripts),
        )
    )


def policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy of a page with exactly these scripts."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # The library writes styles of its own into its charts.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def joined(names: Sequence[str]) -> str:
    """Return scripts of the page as one, with names of their own."""
    return "\n".join(_template(name) for name in names)


@cache
def library() -> str:
    """Return the chart library: what its Python package carries for pages without a network."""
    folder = files("bokeh") / "server" / "static" / "js"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in LIBRARY)


@cache
def _template(name: str) -> str:
    return (files("scenarios") / "templates" / "page" / name).read_text(encoding="utf-8")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
