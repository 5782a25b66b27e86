"""The figures of one or many runs for paper: an SVG file each, or the pages of a PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from gossip.errors import SettingError
from gossip.learning.objectives.score import score_in
from scenarios.reports import figures, verdict_figures
from scenarios.reports.comparison import compare
from scenarios.reports.document.attacks import told_by
from scenarios.reports.document.of_run import honest_bytes
from scenarios.reports.document.of_runs import scored_alike
from scenarios.reports.overview import CURVES_MAX, overview
from scenarios.reports.runs import Run, read_run

BARS_MAX = 6
"""More bars for each type of message are no chart."""


def write_figures(folders: Sequence[Path], *, svg: Path | None, pdf: Path | None) -> list[Path]:
    """Write each figure about the runs in `folders` into the folder `svg`, or all into the file `pdf`, or both.

    Returns:
        The files.

    Raises:
        SettingError: a folder holds no finished run, `pdf` is none, or something cannot be written.
    """
    if pdf is not None and pdf.suffix != ".pdf":
        raise SettingError(f"--pdf {pdf}: must end in .pdf")
    drawn = drawn_of([read_run(folder) for folder in folders])
    written: list[Path] = []
    try:
        with mpl.rc_context({**figures.STYLE, "pdf.fonttype": 42}):
            if svg is not None:
                svg.mkdir(parents=True, exist_ok=True)
                for name, figure in drawn.items():
                    written.append(svg / f"{name}.svg")
                    figure.savefig(written[-1], format="svg", metadata={"Date": None, "Creator": None})
            if pdf is not None:
                with PdfPages(pdf, metadata={"CreationDate": None}) as pages:
                    for figure in drawn.values():
                        pages.savefig(figure)
                written.append(pdf)
    except OSError as error:
        raise SettingError(f"{svg or pdf}: cannot be written: {error.strerror or error}") from None
    return written


def drawn_of(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Return name -> figure of all that these runs have something to draw of."""
    score = scored_alike(runs)
    said = [(run.summary, run.tables) for run in runs]
    rows = overview(said, [run.folder for run in runs]).rows
    rows = rows if len(rows) <= CURVES_MAX else ()
    series = [row.series for row in rows]
    senders = "the honest peers" if any(honest_bytes(run) for run in runs) else "all peers"
    found: dict[str, Figure | None] = {}
    if series:
        found["score"] = figures.scores(series, score)
        found["agreement"] = figures.consensus(series)
        found["cost"] = figures.cost(series, score, senders=senders)
    if 0 < len(rows) <= BARS_MAX:
        found["traffic"] = figures.traffic([(row.series, row.traffic) for row in rows])
    if len(runs) == 1:
        found |= _of_one(runs[0])
    else:
        compared = compare(said)
        if compared.worth_showing:
            found["rules-and-attacks"] = verdict_figures.matrix(
                compared.mean, compared.rules, compared.attacks, score
            )
    return {name: figure for name, figure in found.items() if figure is not None}


def _of_one(run: Run) -> dict[str, Figure | None]:
    score = score_in(run.summary)
    attack = run.summary.get("attack")
    attackers = attack["attackers"] if attack else []
    found = {"peers": figures.every_peer(run.metrics, run.summary["curve"], score)}
    if attackers:
        judged = told_by(run.metrics)
        found["weights"] = verdict_figures.weights(judged, attackers)
        found["verdicts"] = verdict_figures.verdicts(judged, attackers)
    if run.graph is not None:
        finals = {
            peer["peer"]: peer["score"]
            for peer in run.peers
            if peer["score"] is not None and peer.get("honest", True)
        }
        found["network"] = figures.network(run.graph, finals, score, attackers)
    return found
