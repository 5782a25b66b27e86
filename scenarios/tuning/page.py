"""`report.html` of a study: one page with everything it shows inside it."""

from __future__ import annotations

from pathlib import Path

from gossip.errors import SettingError
from scenarios.reports.page import page_environment
from scenarios.tuning import figures, told
from scenarios.tuning.study import START, Study, read_study


def write_page(folder: Path, path: Path) -> Study:
    """Write the page about the study in `folder`, and return the study.

    Raises:
        SettingError: it cannot be read, or the page cannot be written.
    """
    study = read_study(folder)
    try:
        path.write_text(render(study), encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from None
    return study


def render(study: Study) -> str:
    """Return the page, HTML with nothing to load from elsewhere."""
    champion = study.champion()
    of = None if champion is None else champion.method
    trials = [] if of is None else study.of(of)
    return (
        page_environment()
        .get_template("study.html")
        .render(
            study=study,
            asked=study.asked,
            champion=champion,
            start=trials[START] if trials else None,
            held_start=None if of is None else told.held(study, of, trials[START]),
            held_best=None if of is None else told.held(study, of, champion),
            headings=told.headings(study),
            rows=told.rows(study),
            told=told,
            several=len(study.asked.methods) > 1,
            seconds=sum(trial.seconds for trial in study.trials),
            legend=figures.legend(study),
            progress=figures.progress(study),
            parameters=figures.parameters(study),
            judged=figures.judged(study),
            below=figures.below(study) if champion is not None else 0,
            scored=study.asked.scored,
            too_bad=figures.too_bad(study),
        )
    )
