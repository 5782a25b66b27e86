"""The page's small form, for a notebook's cell: what the terminal shows, and the score over rounds."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console

from gossip.learning.objectives.score import score_in
from scenarios.reports.terminal import print_result

WIDTH, HEIGHT, MARGIN = 420, 110, 4
"""Of the curve, in pixels."""

COLUMNS = 100
"""Of the table; longer lines are not broken."""


def small_page(summary: Mapping[str, Any], peers: Sequence[Mapping[str, Any]], *, report: str | None) -> str:
    """Return HTML without scripts, and with nothing to load from elsewhere."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_jupyter=False)
    print_result(console, summary, peers, report=report)
    table = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    return f"<div>{_curve(summary)}{table}</div>"


def _curve(summary: Mapping[str, Any]) -> str:
    """Return the mean score over rounds as a line, or nothing where there are no two points."""
    points = [(entry["round"], entry.get("score_mean")) for entry in summary["curve"]]
    points = [(at, value) for at, value in points if value is not None and math.isfinite(value)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return ""
    scored = score_in(summary)
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    spread = (high - low) or 1.0
    line = " ".join(
        f"{MARGIN + (at - first) / (last - first) * (WIDTH - 2 * MARGIN):.1f},"
        f"{MARGIN + (high - value) / spread * (HEIGHT - 2 * MARGIN):.1f}"
        for at, value in points
    )
    began, ended = scored.told(points[0][1]), scored.told(points[-1][1])
    told = f"{scored.label}, mean of the peers: {began} in round {first}, {ended} in round {last}"
    return (
        f'<svg role="img" aria-label="{escape(told, quote=True)}" width="{WIDTH}" height="{HEIGHT}">'
        f"<title>{escape(told)}</title>"
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
        f"<div>{escape(told)}</div>"
    )
