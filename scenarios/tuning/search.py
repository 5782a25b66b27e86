"""`gossip-scenario tune`: the trials of every method, one after another each, and the held-out seeds at the end."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gossip.errors import ExitCode, SettingError, UserError
from gossip.learning.objectives.score import ACCURACY
from scenarios.errors import FAILED, RunFailed
from scenarios.scenario import load
from scenarios.tuning import VALIDATION
from scenarios.tuning.methods import Method, methods
from scenarios.tuning.runs import Measured, Outcome, Run, Workers, jobs_at_a_time, workers
from scenarios.tuning.sampling import require_optuna, suggest
from scenarios.tuning.study import (
    START,
    Asked,
    HeldOut,
    Study,
    Trial,
    hold_study,
    open_study,
    release_study,
)

TRIALS_MAX = 10_000
"""More are a mistyped number."""

HELD_OUT_SEEDS = 3
"""So many seeds after the last tuning seed, unless others are named."""

TUNING_SEEDS = 2
"""The scenario's own and the next, unless others are named: two runs a trial, one for each core of a small machine."""

Tell = Callable[[str], None]


def tune(
    scenario: str | Path,
    *,
    trials: int,
    algorithms: Sequence[str] = (),
    overrides: Sequence[str] = (),
    space: Sequence[str] | None = None,
    seed: int | None = None,
    tuning_seeds: Sequence[int] | None = None,
    held_out_seeds: Sequence[int] | None = None,
    validation: float = VALIDATION,
    out: str | Path | None = None,
    jobs: int | None = None,
    tell: Tell = lambda line: None,
) -> Study:
    """Search for the settings that suit a scenario, and return the study, finished.

    Args:
        scenario: a library name or the path of a .toml file.
        trials: of each algorithm, the start among them.
        algorithms: presets to compare; none: the scenario's own.
        overrides: ``SECTION.KEY=VALUE`` strings: where the search starts, and all that is not searched.
        space: ``KEY=LOW..HIGH`` or ``KEY=V1,V2,…`` strings; None: η, and ρ and Q where the method has them.
        seed: of the search's own draws; default: the scenario's.
        tuning_seeds: whose mean is the score; default: `seed` and the next.
        held_out_seeds: on which the start and the best are measured at the end; default: the three after those.
        validation: share of the training samples that scores are measured on; 0: the test samples.
        out: the study's folder; default runs/tune-NAME. A study that is there goes on.
        jobs: runs at a time; default: one per core.
        tell: told a line for each trial.

    Raises:
        gossip.errors.UserError: a setting, file or folder is wrong; one sentence.
        scenarios.errors.RunFailed: the machine did not do a run; one sentence.
    """
    if not 1 <= trials <= TRIALS_MAX:
        raise SettingError(f"--trials {trials}: must be 1 to {TRIALS_MAX}")
    if not 0 <= validation < 1:
        raise SettingError(f"--validation {validation}: must be a share, 0 or more and below 1")
    require_optuna()
    base = load(scenario, seed=seed, overrides=overrides)
    tuning, held_out = _seeds(base.seed, tuning_seeds, held_out_seeds)
    asked = Asked(
        scenario=str(scenario),
        name=base.scenario.name,
        seed=base.seed,
        tuning_seeds=tuning,
        held_out_seeds=held_out,
        validation=validation,
        methods=tuple(methods(str(scenario), algorithms, overrides, space)),
        scored=base.objective.load()(base.objective).score,
    )
    folder = Path(out) if out is not None else Path("runs") / f"tune-{base.scenario.name}"
    return _carry_out(asked, trials, folder, jobs, tell)


def _seeds(
    seed: int, tuning_seeds: Sequence[int] | None, held_out_seeds: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    tuning = tuple(range(seed, seed + TUNING_SEEDS) if tuning_seeds is None else tuning_seeds)
    after = max(tuning) + 1
    held_out = tuple(range(after, after + HELD_OUT_SEEDS) if held_out_seeds is None else held_out_seeds)
    for common in sorted(set(tuning) & set(held_out)):
        raise SettingError(f"--held-out-seeds: seed {common} is a tuning seed; what chose cannot also judge")
    return tuning, held_out


def _carry_out(asked: Asked, trials: int, folder: Path, jobs: int | None, tell: Tell) -> Study:
    descriptor = hold_study(folder)
    try:
        study = open_study(folder, asked, trials)
        most = len(asked.methods) * max(len(asked.tuning_seeds), 2 * len(asked.held_out_seeds))
        with workers(jobs_at_a_time(jobs, most)) as begin:
            for number in range(study.wanted):
                _trials(study, number, begin, tell)
            _hold_out(study, begin, tell)
    finally:
        release_study(folder, descriptor)
    return study


def _trials(study: Study, number: int, begin: Workers, tell: Tell) -> None:
    """Do the trial of that number of every method that has not had it."""
    asked = study.asked
    begun = []
    for method in asked.methods:
        if any(trial.number == number for trial in study.of(method.name)):
            continue
        params = _params(study, method, number)
        settings = method.settings({} if number == START else params)
        scored = (*settings, f"data.test_from_train={asked.validation!r}") if asked.validation else settings
        runs = [Run(asked.scenario, scored, seed) for seed in asked.tuning_seeds]
        begun.append((method, params, settings, begin(runs)))
    for method, params, settings, outcomes in begun:
        measured = [outcome() for outcome in outcomes]
        if number == START:
            _refuse_start(method, measured)
        trial = _trial(method, number, params, settings, measured)
        study.add(trial)
        tell(_line(study, trial))


def _refuse_start(method: Method, measured: Sequence[Measured]) -> None:
    """End a study whose start cannot be run: its data, for one, are those of all trials."""
    for each in measured:
        if each.error is not None:
            hint = "; --validation 0 takes the test samples" if "test_from_train" in each.error else ""
            if each.exit_code == FAILED:
                raise RunFailed(f"{method.name} as it stands, seed {each.seed}: {each.error}")
            failure = UserError(f"{method.name} as it stands, seed {each.seed}: {each.error}{hint}")
            failure.exit_code = ExitCode(each.exit_code)
            raise failure


def _params(study: Study, method: Method, number: int) -> dict[str, Any]:
    if number == START:
        return dict(method.start)
    finished = []
    trials, sign = study.of(method.name), 1.0 if study.asked.scored.higher_is_better else -1.0
    # What cannot be run is as bad as can be: of accuracies that is known.
    worst = min((sign * trial.score for trial in trials if trial.score is not None), default=0.0) - 1.0
    for trial in trials:
        placed = method.placed() if trial.number == START else dict(trial.params)
        if placed is not None:
            failed = 0.0 if study.asked.scored == ACCURACY else worst
            finished.append((placed, failed if trial.score is None else sign * trial.score))
    return dict(suggest(method.space, finished, seed=study.asked.seed, method=method.name, number=number))


def _trial(
    method: Method,
    number: int,
    params: dict[str, Any],
    settings: tuple[str, ...],
    measured: Sequence[Measured],
) -> Trial:
    scores = {str(each.seed): each.score for each in measured if each.score is not None}
    whole = len(scores) == len(measured)
    worst = [each.worst for each in measured if each.worst is not None]
    return Trial(
        method=method.name,
        number=number,
        params=params,
        settings=settings,
        score=statistics.fmean(scores.values()) if whole else None,
        scores=scores,
        worst=statistics.fmean(worst) if whole and worst else None,
        megabytes=statistics.fmean(each.megabytes for each in measured) if whole else None,
        seconds=sum(each.seconds for each in measured),
        error=next((f"seed {each.seed}: {each.error}" for each in measured if each.error is not None), None),
    )


def _line(study: Study, trial: Trial) -> str:
    from scenarios.reports.terminal import short_values

    scored = study.asked.scored
    best = study.best(trial.method)
    what = "as it stands" if trial.number == START else short_values(trial.params)
    came = scored.told(trial.score) if trial.error is None else trial.error
    best_of = "" if best is None else f"  best {scored.told(best.score)} (trial {best.number})"
    count = f"{trial.number + 1}/{study.wanted}"
    return f"{count}  {trial.method} trial {trial.number}: {what}  {came}{best_of}  {trial.seconds:.0f} s"


def _hold_out(study: Study, begin: Workers, tell: Tell) -> None:
    """Run the start and the best of every method with the held-out seeds, on the test samples."""
    asked = study.asked
    begun: dict[str, list[tuple[Trial, list[Outcome]]]] = {}
    for method in asked.methods:
        best = study.best(method.name)
        if best is None:
            raise RunFailed(f"no trial of '{method.name}' came to an end; see {study.folder}")
        numbers = dict.fromkeys((START, best.number))
        if study.is_held_out(method.name):
            continue
        chosen = [trial for trial in study.of(method.name) if trial.number in numbers]
        begun[method.name] = [(trial, begin(_held_out_runs(study, trial))) for trial in chosen]
    if not begun:
        return
    found = dict(study.held_out)
    for name, pairs in begun.items():
        tell(f"{name}: the start and the best with the held-out seeds")
        found[name] = [_held_out(trial, [outcome() for outcome in outcomes]) for trial, outcomes in pairs]
    study.conclude(found)


def _held_out_runs(study: Study, trial: Trial) -> list[Run]:
    folder = (
        study.folder
        / "held-out"
        / trial.method
        / ("start" if trial.number == START else f"trial-{trial.number}")
    )
    return [
        Run(study.asked.scenario, trial.settings, seed, folder / f"seed-{seed}")
        for seed in study.asked.held_out_seeds
    ]


def _held_out(trial: Trial, measured: Sequence[Measured]) -> HeldOut:
    scores = {}
    for each in measured:
        if each.score is None:
            raise RunFailed(f"{trial.method}, held-out seed {each.seed}: {each.error}")
        scores[str(each.seed)] = each.score
    return HeldOut(trial=trial.number, settings=trial.settings, scores=scores)
