"""Tuning: equal budgets, the same trials for the same seed, an interruption that costs nothing, and held-out seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios
from gossip.config.presets import PRESETS
from gossip.errors import SettingError
from scenarios import scenario
from scenarios.tuning import runs, search
from scenarios.tuning.methods import differences, methods
from scenarios.tuning.runs import Measured, Run
from scenarios.tuning.study import Study, read_study
from tests.tuned import TINY, formula


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Replace runs by a formula; what was run is noted."""
    noted: list[Run] = []
    monkeypatch.setattr(runs, "measure", formula(noted))
    return noted


def told(study: Study) -> list[tuple[object, ...]]:
    return [(t.method, t.number, dict(t.params), t.score) for t in study.trials]


# --- what is run ---------------------------------------------------------------------------------------


def test_a_wrong_step_size_is_mended_and_the_held_out_seeds_say_so(tiny, tmp_path):
    lines: list[str] = []
    study = scenarios.tune(
        tiny, trials=5, overrides=["local.lr=0.0002"], out=tmp_path / "study", jobs=1, tell=lines.append
    )
    start, best = study.of("dfedsam-mgs")[0], study.best("dfedsam-mgs")
    assert (start.params["local.lr"], start.score < 0.3) == (0.0002, True)
    assert best.number > 0
    assert best.score > start.score + 0.2
    before, after = study.held_out["dfedsam-mgs"]
    assert after.mean > before.mean + 0.2
    assert study.done
    assert len(lines) == 6
    # A trial, and what is held out, is an ordinary run with the settings that are told.
    for settings_, seed, accuracy in (
        ((*best.settings, "data.test_from_train=0.2"), 1, best.scores["1"]),
        (best.settings, 3, after.scores["3"]),
    ):
        again = scenarios.run(
            tiny, seed=seed, overrides=settings_, out=tmp_path / "again", force=True, report=False
        )
        assert again.summary["accuracy"]["mean"] == accuracy


def test_scores_see_no_test_sample_and_held_out_runs_no_tuning_seed(tiny, tmp_path, done):
    search.tune(tiny, trials=4, out=tmp_path / "study", jobs=1, validation=0.25)
    trials = [run for run in done if run.folder is None]
    held_out = [run for run in done if run.folder is not None]
    assert (len(trials), {run.seed for run in trials}) == (8, {0, 1})
    assert all(run.settings[-1] == "data.test_from_train=0.25" for run in trials)
    assert {run.seed for run in held_out} == {2, 3, 4}
    assert not any("test_from_train" in setting for run in held_out for setting in run.settings)
    assert all(tmp_path / "study" in run.folder.parents for run in held_out)
    done.clear()
    search.tune(tiny, trials=1, out=tmp_path / "other", jobs=1, validation=0, seed=7)
    assert {run.seed for run in done} == {7, 8, 9, 10, 11}
    assert not any("test_from_train" in setting for run in done for setting in run.settings)


def test_every_method_has_as_many_trials_and_stays_what_it_is(tiny, tmp_path, done):
    names = ["dfedavg", "dfedsam", "dfedsam-mgs"]
    study = search.tune(tiny, trials=6, algorithms=names, out=tmp_path / "study", jobs=1)
    for name, tuned in zip(names, (1, 2, 3), strict=True):
        trials = study.of(name)
        assert [trial.number for trial in trials] == list(range(6))
        for trial in trials:
            assert len(trial.params) == tuned
            found = scenario.load(tiny, overrides=trial.settings)
            assert found.algorithm == name
            assert bool(found.local.sam_rho) == (name != "dfedavg")
            assert (found.protocol.gossip_steps == 1) or name == "dfedsam-mgs"
    assert study.champion() is max((study.best(name) for name in names), key=lambda trial: trial.score)


@pytest.mark.parametrize("own", PRESETS)
def test_a_scenario_of_one_preset_becomes_one_of_any_other(own, tmp_path):
    for other in PRESETS:
        path = tmp_path / "any.toml"
        path.write_text(f'[scenario]\nalgorithm = "{own}"\npeers = 30\n')
        turned = scenario.load(path, overrides=[f"scenario.algorithm={other}", *differences(own, other)])
        assert turned == scenario.load(path, overrides=[f"scenario.algorithm={other}"])


def test_what_the_scenario_says_of_its_own_method_does_not_make_another_into_that():
    found = {
        m.name: m for m in methods("ring-dfedsam-mgs", ["dfedavg", "dfedsam-mgs"], ["local.lr=0.3"], None)
    }
    plain = scenario.load("ring-dfedsam-mgs", overrides=found["dfedavg"].overrides)
    assert (plain.local.sam_rho, plain.protocol.gossip_steps, plain.local.lr) == (0.0, 1, 0.3)
    assert plain.local == scenario.load("ring-dfedavg", overrides=["local.lr=0.3"]).local
    assert found["dfedsam-mgs"].overrides == ("local.lr=0.3",)
    sam = methods("ring-dfedavg", ["dfedsam"], [], None)[0]
    assert scenario.load("ring-dfedavg", overrides=sam.overrides).local.sam_rho == 0.2


# --- the same trials ---------------------------------------------------------------------------------------


def test_the_same_seed_has_the_same_trials_interrupted_or_not_and_further_or_not(tiny, tmp_path, done):
    names = ["dfedavg", "dfedsam-mgs"]
    whole = search.tune(tiny, trials=9, algorithms=names, out=tmp_path / "whole", jobs=1)

    def stop(line: str) -> None:
        if "trial 6" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.tune(tiny, trials=8, algorithms=names, out=tmp_path / "cut", jobs=1, tell=stop)
    kept = read_study(tmp_path / "cut")
    assert len(kept.trials) == 13  # both methods' 0 to 5, and the first one's 6
    assert not kept.done
    done.clear()
    assert search.tune(tiny, trials=8, algorithms=names, out=tmp_path / "cut", jobs=1).done
    assert len([run for run in done if run.folder is None]) == 2 * 3  # two seeds of three trials
    further = search.tune(tiny, trials=9, algorithms=names, out=tmp_path / "cut", jobs=1)
    assert told(further) == told(whole) == told(read_study(tmp_path / "cut"))
    assert further.held_out == whole.held_out == read_study(tmp_path / "cut").held_out
    done.clear()
    assert search.tune(tiny, trials=9, algorithms=names, out=tmp_path / "cut", jobs=1).done
    assert not done
    other = search.tune(tiny, trials=9, algorithms=names, out=tmp_path / "other", jobs=1, seed=1)
    assert [t.params for t in other.trials[2:]] != [t.params for t in whole.trials[2:]]


def test_a_best_that_is_found_later_meets_the_held_out_seeds_too(tiny, tmp_path, done):
    overrides = ["local.lr=0.002"]
    first = search.tune(tiny, trials=2, overrides=overrides, out=tmp_path / "study", jobs=1)
    before = first.best("dfedsam-mgs")
    later = search.tune(tiny, trials=14, overrides=overrides, out=tmp_path / "study", jobs=1)
    best = later.best("dfedsam-mgs")
    assert best.number > before.number
    assert [each.trial for each in later.held_out["dfedsam-mgs"]] == [0, best.number]


def test_a_study_of_something_else_is_left_alone(tiny, tmp_path, done):
    out = tmp_path / "study"
    search.tune(tiny, trials=2, out=out, jobs=1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for changed in (
        {"overrides": ["local.lr=0.3"]},
        {"tuning_seeds": [0]},
        {"held_out_seeds": [5]},
        {"validation": 0.1},
        {"space": ["local.lr=0.01..1"]},
        {"algorithms": ["dfedavg"]},
        {"seed": 3},
    ):
        with pytest.raises(SettingError, match=r"holds a study of other settings \(.* there, .* here\)"):
            search.tune(tiny, **{"trials": 2, "out": out, "jobs": 1, **changed})
    Path(tiny).write_text(TINY.replace("rounds = 2", "rounds = 3"))
    with pytest.raises(SettingError, match=r"stop.rounds = 2 there, 3 here"):
        search.tune(tiny, trials=2, out=out, jobs=1)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingError, match="holds other files and no study"):
        search.tune(tiny, trials=2, out=tmp_path / "thesis", jobs=1)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_two_searches_never_write_into_one_folder(tiny, tmp_path, done):
    def again(line: str) -> None:
        search.tune(tiny, trials=2, out=tmp_path / "study", jobs=1)

    with pytest.raises(SettingError, match="another study is being made there"):
        search.tune(tiny, trials=2, out=tmp_path / "study", jobs=1, tell=again)


def test_a_start_outside_the_space_is_run_and_not_searched_from(tiny, tmp_path, done):
    study = search.tune(
        tiny, trials=3, overrides=["local.lr=5.0"], space=["local.lr=0.01..1"], out=tmp_path / "s", jobs=1
    )
    assert study.trials[0].params == {"local.lr": 5.0}
    assert all(0.01 <= trial.params["local.lr"] <= 1 for trial in study.trials[1:])


def test_a_setting_that_cannot_be_run_is_a_trial_that_came_to_nothing(tiny, tmp_path, monkeypatch, done):
    formula = runs.measure

    def measure(run: Run, elsewhere: Path) -> Measured:
        good = formula(run, elsewhere)
        if "local.batch_size=7" in run.settings:
            return Measured(
                seed=run.seed, score=None, worst=None, megabytes=0, seconds=0, error="no", exit_code=2
            )
        return good

    monkeypatch.setattr(runs, "measure", measure)
    study = search.tune(tiny, trials=6, space=["local.batch_size=7,8"], out=tmp_path / "s", jobs=1)
    failed = [trial for trial in study.trials if trial.error]
    assert failed
    assert all((t.score, t.error) == (None, "seed 0: no") for t in failed)
    assert study.best("dfedsam-mgs").error is None
