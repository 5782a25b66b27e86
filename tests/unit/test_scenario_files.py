"""Scenario files: what they resolve to, and one sentence for everything that is wrong with them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tomli_w import dumps

from gossip.config import load_task
from gossip.errors import SettingError
from scenarios import scenario
from scenarios.progress import for_console


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", scenario.library())
def test_every_library_scenario_is_valid_named_like_its_file_and_described(name: str) -> None:
    settings = scenario.load(name)
    assert settings.scenario.name == name
    assert settings.scenario.description
    assert len(settings.peer_names) == settings.scenario.peers


def test_the_two_ring_scenarios_differ_only_in_what_they_compare() -> None:
    plain, sam = (scenario.load(f"ring-{name}").as_file() for name in ("dfedavg", "dfedsam-mgs"))
    for tables in (plain, sam):
        tables.pop("scenario")
    assert sam["local"].pop("sam_rho") == 0.2
    assert sam["protocol"].pop("gossip_steps") == 4
    plain["local"].pop("sam_rho")
    plain["protocol"].pop("gossip_steps")
    assert plain == sam


def test_a_choice_that_drops_keys_is_told_where_a_run_begins(tmp_path: Path) -> None:
    path = written(tmp_path, '[scenario]\npeers = 3\n[model]\nname = "mlp"\nhidden = [8]\n')
    settings = scenario.load(path, overrides=["model.name=cnn"])
    for terminal in (False, True):
        shown = Console(file=StringIO(), force_terminal=terminal, width=200)
        progress = for_console(shown)
        progress.begin(settings)
        progress.end()
        assert "--set model.name=cnn drops model.hidden = [8]" in shown.file.getvalue()  # type: ignore[attr-defined]


def test_algorithm_and_seed_of_the_scenario_become_the_tasks(tmp_path: Path) -> None:
    path = written(tmp_path, '[scenario]\nalgorithm = "dfedavgm"\nseed = 7\npeers = 3\n')
    settings = scenario.load(path)
    assert (settings.scenario.name, settings.algorithm, settings.seed) == ("mine", "dfedavgm", 7)
    assert settings.local.momentum == 0.9
    assert settings.peer_names == ("peer-00", "peer-01", "peer-02")
    assert scenario.load(path, seed=9).task().seed == 9
    again = scenario.load(
        path, values={"scenario.peers": 120, "local.lr": 0.3}, overrides=["scenario.seed=5"]
    )
    assert (again.scenario.peers, again.seed, again.local.lr) == (120, 5, 0.3)
    assert again.peer_names[-1] == "peer-119"
    assert list(again.peer_names) == sorted(again.peer_names)


def test_paths_are_relative_to_the_file_and_to_the_shell_in_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    path = written(folder, '[data]\nsource = "d.npz"\n[model]\nname = "python:nets/mine.py:net"\n')
    settings = scenario.load(path)
    assert settings.data.source == str(folder / "d.npz")
    assert settings.model.name == f"python:{folder / 'nets/mine.py'}:net"
    monkeypatch.chdir(tmp_path)
    assert scenario.load(path, overrides=["data.source=e.npz"]).data.source == str(tmp_path / "e.npz")
    assert scenario.load(path, overrides=["model.name=mlp"]).model.name == "mlp"
    for taken in ("mlp", "random-features", "digits", "pictures"):
        (tmp_path / taken).mkdir()
    for key, value in (("name", "mlp"), ("extractor", "random-features")):
        loaded = scenario.load(path, overrides=["model.name=mlp", f"model.{key}={value}"])
        assert getattr(loaded.model, key) == value, "a folder of that name is none of the model's"
    assert scenario.load(path, overrides=["data.source=digits"]).data.source == "digits"
    assert scenario.load(path, overrides=["data.source=pictures"]).data.source == str(tmp_path / "pictures")


def test_a_resolved_scenario_says_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    for name in scenario.library():
        first = scenario.load(name, overrides=["local.steps=3"])
        path = written(tmp_path, dumps(first.as_file()), f"{name}.toml")
        assert scenario.load(path) == first
        task = written(tmp_path, dumps(first.task().as_sections()), "task.toml")
        assert load_task(task) == first.task()
        assert load_task(task).run_id() == first.task().run_id()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[scenario]\npeers = 0\n", "mine.toml:2: [scenario] peers = 0: "),
        ("[scenario]\n\npears = 4\n", "mine.toml:3: [scenario] unknown key 'pears'; did you mean 'peers'?"),
        (
            '[scenario]\nname = "a/b"\n',
            "mine.toml:2: [scenario] name = 'a/b': must be 1 to 100 of the letters A to Z and a to z, digits, ",
        ),
        (
            '[model]\nextractor_hash = "x"\n',
            "extractor_hash = 'x': must be 32 of the digits 0 to 9 and a to f",
        ),
        ('[peers]\ntrace = "x.csv"\ncolumns = []\n', "[peers] columns = []: must have at least 1 item"),
        (
            '[scenario]\nalgorithm = "dfedsm"\n',
            "mine.toml:2: unknown algorithm 'dfedsm'; did you mean 'dfedsam'?",
        ),
        ("[scenario]\nalgorithm = 3\n", "mine.toml:2: [scenario] algorithm = 3: "),
        ("scenario = 3\n", "mine.toml:1: 'scenario' must be a section: [scenario]"),
        ("seed = 3\n", "mine.toml:1: 'seed' of a scenario stands in its section: [scenario]"),
        ('algorithm = "local"\n', "mine.toml:1: 'algorithm' of a scenario stands in its section"),
        ("[netwrk]\nlatency_ms = 5\n", "mine.toml:1: unknown section 'netwrk'; "),
        ("[attack]\nkind = 'nan'\n", "[attack] attack needs exactly one of fraction, count and peers"),
        (
            "[attack]\nkind = 'nan'\ncount = 8\n",
            "[attack] count = 8: 8 peers with 8 attackers leave nobody honest",
        ),
        (
            "[faults]\nlist = [{ at = 1, do = 'crash' }]\n",
            "mine.toml:2: [faults] list.0: do = 'crash' needs peers",
        ),
        (
            "[network]\nlatency_ms = [5, 1]\n",
            "mine.toml:2: [network] latency_ms = [5, 1]: must be 0 <= from <= to",
        ),
        (
            "[faults]\nlist = [{ at = 1, do = 'heal' }, { at = 1, do = 'partition', groups = [[0, 1], [2]] }]\n",
            "mine.toml:2: [faults] unknown key 'list.1.groups'; valid: at, do, peers",
        ),
        (
            "[faults]\nchurn = { online_s = 1, offline_s = 1, form = 2 }\n",
            "[faults] unknown key 'churn.form'; valid: offline_s, online_s, shape, trace_path",
        ),
        ("[faults]\nlst = []\n", "mine.toml:2: [faults] unknown key 'lst'; did you mean 'list'?"),
        ("[local]\nlr = -1\n", "mine.toml:2: [local] lr = -1: "),
        (
            '[topology]\nkind = "rign"\n',
            "mine.toml:1: [topology] unknown topology 'rign'; did you mean 'ring'?",
        ),
        ('[scenario]\npeers = 7\n[topology]\nkind = "torus"\n', "mine.toml:3: [topology] torus needs"),
        ("[scenario\n", "mine.toml: not valid TOML: "),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        scenario.load(written(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_override_is_blamed_by_its_own_words(tmp_path: Path) -> None:
    path = written(tmp_path, '[scenario]\nalgorithm = "dfedsam"\n')
    with pytest.raises(SettingError, match=r"--set scenario.algorithm=sgd: unknown algorithm 'sgd'"):
        scenario.load(path, overrides=["scenario.algorithm=sgd"])
    with pytest.raises(SettingError, match=r"override 'peers': must look like SECTION.KEY"):
        scenario.load(path, values={"peers": 3})
    with pytest.raises(SettingError, match=r"--set scenario.peers=x: \[scenario\] peers = 'x'"):
        scenario.load(path, overrides=["scenario.peers=x"])


def test_an_unknown_scenario_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError,
        match=r"unknown scenario 'quikstart', and no path of a \.toml file; did you mean 'quickstart'",
    ):
        scenario.load("quikstart")
    with pytest.raises(SettingError, match="there is no such scenario file"):
        scenario.load(tmp_path / "absent.toml")
