"""What pages and figures are made with, which peers need not: one sentence where it is missing."""

from __future__ import annotations

from gossip.extras import needed


def require_page() -> None:
    """Say so where a page cannot be written.

    Raises:
        SettingError: jinja2 or bokeh is not installed.
    """
    for module in ("jinja2", "bokeh"):
        needed(module, f"a report is written with {module}", extra="report")


def require_figures(what: str) -> None:
    """Say so where nothing can be drawn.

    Raises:
        SettingError: matplotlib is not installed.
    """
    needed("matplotlib", f"{what} is drawn with matplotlib", extra="report")


def require_study() -> None:
    """Say so where the page of a study cannot be written.

    Raises:
        SettingError: matplotlib or jinja2 is not installed.
    """
    needed("matplotlib", "the page of a study is drawn with matplotlib", extra="tune")
    needed("jinja2", "the page of a study is written with jinja2", extra="tune")
