"""`gossip-scenario report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gossip.errors import UserError


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs, or one of a study.", metavar="DIR...")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default DIR/report.html, or ./report.html for several.", metavar="FILE"),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="For papers: every figure as an SVG file in here.", metavar="DIR")
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option(help="For papers: all figures in one PDF.", metavar="FILE")
    ] = None,
) -> None:
    """Write one self-contained page about one or many runs, or about a study that tune has made.

    With --svg or --pdf: figures for a paper instead, and the page only where --out names it.
    """
    from scenarios.reports.needs import require_figures, require_page
    from scenarios.run_folder import REPORT
    from scenarios.tuning.commands import report_study
    from scenarios.tuning.study import is_study

    page = out or (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
    studies = [folder for folder in folders if is_study(folder)]
    if studies:
        if len(folders) > 1:
            raise UserError(f"{studies[0]}: is a study, and has a page of its own; give it alone")
        if svg is not None or pdf is not None:
            raise UserError(f"{studies[0]}: is a study; --svg and --pdf are for runs")
        report_study(studies[0], page)
        return
    if svg is not None or pdf is not None:
        require_figures("--svg" if pdf is None else "--pdf")
        from scenarios.reports.papers import write_figures

        for path in write_figures(folders, svg=svg, pdf=pdf):
            print(path)
        if out is None:
            return
    require_page()
    from scenarios.reports.page import write_report

    write_report(folders, page)
    print(page)
