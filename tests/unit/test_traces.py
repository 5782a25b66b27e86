"""Traces: what a line says of a peer's machine, what is refused, and what the tool makes up."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from gossip.errors import SettingError
from scenarios import cli, scenario, synthetic_traces, traces
from scenarios.processes.homes import arguments, own_settings
from scenarios.ready import LIBRARY
from scenarios.sections import PeersSettings
from scenarios.traces import Periods, Trace

numbers = st.floats(1e-6, 1e6)


@st.composite
def periods(draw: st.DrawFn) -> Periods:
    ends = sorted(draw(st.lists(st.integers(0, 10_000), max_size=8, unique=True)))
    found = [(float(a), float(b)) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    if len(ends) % 2:
        found.append((float(ends[-1]), math.inf))
    return tuple(found)


def cell(name: str, value: object) -> str:
    if name != "online":
        return repr(value)
    assert isinstance(value, tuple)
    return ";".join(f"{a:g}-" if b == math.inf else f"{a:g}-{b:g}" for a, b in value)


def read(path: Path, text: str, *, peers: int = 1, **chosen: object) -> Trace:
    path = path / "machines.csv"
    path.write_text(text, encoding="utf-8")
    return traces.read(PeersSettings(trace=str(path), **chosen), peers=peers)  # type: ignore[arg-type]


@given(st.data())
def test_what_a_file_says_is_what_is_read_whatever_the_order_of_its_columns(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = data.draw(
        st.lists(st.sampled_from(["links", "seconds_per_sample", "online"]), min_size=1, unique=True)
    )
    columns = [name for each in names for name in (("up", "down") if each == "links" else (each,))]
    order = data.draw(st.permutations(columns))
    peers = data.draw(st.integers(1, 5))
    values = {
        name: tuple(data.draw(periods() if name == "online" else numbers) for _ in range(peers))
        for name in order
    }
    rows = [",".join(cell(name, values[name][place]) for name in order) for place in range(peers)]
    text = "\n".join(["# made up", ",".join(order), *rows, ""])
    found = read(tmp_path_factory.mktemp("trace"), text, peers=peers)
    assert found == Trace(lines=peers, **values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            ": has no line that names its columns; valid: up, down, upload_mbps_max, seconds_per_sample, online",
        ),
        ("up,down\n", ": names its columns and has no line for any peer"),
        ("# c\n\nup,dwon\n1,1\n", ":3: unknown column 'dwon'; did you mean 'down'?"),
        ("up,up\n1,1\n", ":1: column 'up' stands there twice"),
        ("up,down\n1\n", ":2: 1 values for 2 columns (up, down)"),
        ("up,down\n1,2,3\n", ":2: 3 values for 2 columns (up, down)"),
        ("up,down\n1,2\n# c\n0,2\n", ":4: up = '0': must be a number of Mbit/s above 0"),
        ("up,down\n1,inf\n", ":2: down = 'inf': must be a number of Mbit/s above 0"),
        ("up,down\n1,\n", ":2: down = '': must be a number of Mbit/s above 0"),
        (
            "seconds_per_sample\nfast\n",
            ":2: seconds_per_sample = 'fast': must be a number of seconds, 0 or more",
        ),
        ("seconds_per_sample\n-1\n", ":2: seconds_per_sample = '-1': must be a number of seconds, 0 or more"),
        ("online\n0-1,2\n", ":2: 2 values for 1 columns (online)"),
        (
            "online\n5\n",
            ":2: online = '5': must be periods of seconds, such as 0-120;300-600 or 45-, or nothing",
        ),
        ("online\n0--5\n", ":2: online = '0--5': must be periods of seconds"),
        ("online\n0-5;\n", ":2: online = '0-5;': must be periods of seconds"),
        ("online\n5-5\n", ":2: online = '5-5': a period ends after it begins, 5-5 does not"),
        ("online\n0-9;4-12\n", ":2: online = '0-9;4-12': 4-12 begins before the period before it has ended"),
        ("online\n0-;4-12\n", ":2: online = '0-;4-12': 4-12 begins before the period before it has ended"),
        ("online\n0-4;4-12\n", ":2: online = '0-4;4-12': 4-12 begins before"),
        ('online\n"0-4\n', ":2: '\"0-4': not values with commas between them"),
    ],
)
def test_a_wrong_line_is_one_sentence_with_its_place_its_value_and_what_is_valid(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'machines.csv'}{said}")
    assert "\n" not in str(error.value)


def test_files_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^/nowhere\.csv: cannot be read: No such file or directory$"):
        traces.read(PeersSettings(trace="/nowhere.csv"), peers=1)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"up,down\n\xff")
    with pytest.raises(SettingError, match=r"latin\.csv: not UTF-8 text \(byte 8\)$"):
        traces.read(PeersSettings(trace=str(path)), peers=1)


LINKS = "up,down,seconds_per_sample\n1,2,0.1\n3,4,0.2\n"


def test_fewer_lines_than_peers_are_refused_unless_they_are_to_be_taken_in_turn(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"lines for 2 peers, and there are 5; add lines, or say .* repeat = true"
    ):
        read(tmp_path, LINKS, peers=5)
    assert read(tmp_path, LINKS, peers=5, repeat=True).up == (1, 3, 1, 3, 1)
    assert read(tmp_path, LINKS, peers=1).up == (1,)


def test_below_a_heading_of_one_column_an_empty_line_is_a_peer_of_which_nothing_is_said(
    tmp_path: Path,
) -> None:
    assert read(tmp_path, "\n# c\n\nonline\n\n0-5\n# c\n  \n", peers=3).online == ((), ((0, 5),), ())
    assert read(tmp_path, "upload_mbps_max\n\n2\n", peers=2).upload_mbps_max == (None, 2)
    assert read(tmp_path, "seconds_per_sample\n\n2\n", peers=1).seconds_per_sample == (2,)
    assert read(tmp_path, "up,down\n\n1,2\n\n", peers=1).lines == 1
    with pytest.raises(SettingError, match="lines for 2 peers, and there are 3"):
        read(tmp_path, "online\n\n0-5\n", peers=3)


def test_columns_that_are_not_asked_for_are_checked_and_not_used(tmp_path: Path) -> None:
    found = read(tmp_path, LINKS, peers=2, columns=("seconds_per_sample",))
    assert found == Trace(seconds_per_sample=(0.1, 0.2), lines=2)
    with pytest.raises(SettingError, match="says 'up' without 'down'"):
        read(tmp_path, LINKS, peers=2, columns=("up",))
    with pytest.raises(SettingError, match="has no column 'online'; it has up, down, seconds_per_sample"):
        read(tmp_path, LINKS, peers=2, columns=("online",))
    with pytest.raises(SettingError, match="up = 'x'"):
        read(tmp_path, LINKS.replace("3,", "x,"), peers=2, columns=("seconds_per_sample",))


@given(st.lists(periods(), min_size=1, max_size=6))
def test_at_any_time_those_are_there_whose_period_it_is(online: list[Periods]) -> None:
    faults = Trace(online=tuple(online), lines=len(online)).faults()
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    joins = {place for fault in faults if fault.do == "join" for place in fault.peers}  # type: ignore[union-attr]
    there = set(range(len(online))) - joins
    for time_s in range(0, 10_001, 250):
        now = set(there)
        for fault in faults:
            if fault.at <= time_s:
                assert isinstance(fault.peers, tuple)
                (now.difference_update if fault.do == "crash" else now.update)(fault.peers)
        for place, mine in enumerate(online):
            meant = not mine or any(from_s <= time_s < to_s for from_s, to_s in mine)
            assert (place in now) == meant


# --- scenarios ---


def write_scenario(folder: Path, more: str = "", *, trace: str = LINKS) -> Path:
    (folder / "machines.csv").write_text(trace)
    path = folder / "mine.toml"
    path.write_text(f'[scenario]\npeers = 2\n{more}\n[peers]\ntrace = "machines.csv"\n')
    return path


def test_a_trace_lies_beside_its_scenario_and_comes_out_absolute(tmp_path: Path) -> None:
    settings = scenario.load(write_scenario(tmp_path))
    assert settings.trace().up == (1, 3)
    assert settings.as_file()["peers"]["trace"] == str(tmp_path / "machines.csv")
    assert not settings.notes


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "[network]\nbandwidth_mbps = 5.0",
            r"'up and down' of each peer, and \[network\] bandwidth_mbps = 5.0 of all",
        ),
        (
            "[compute]\nspread = 0.5",
            r"'seconds_per_sample' of each peer, and \[compute\] spread = 0.5 of all",
        ),
        (
            "[compute]\nstragglers = 0.5",
            r"'seconds_per_sample' of each peer, and \[compute\] stragglers = 0.5 of all",
        ),
    ],
)
def test_what_two_sections_say_of_the_same_thing_is_refused(tmp_path: Path, more: str, said: str) -> None:
    path = write_scenario(tmp_path, more)
    with pytest.raises(
        SettingError, match=rf"mine\.toml:\d+: \[peers\] the trace says {said}; leave one out"
    ):
        scenario.load(path)
    (other,) = {"up,down", "seconds_per_sample"} - {"up,down" if "network" in more else "seconds_per_sample"}
    scenario.load(path, values={"peers.columns": tuple(other.split(","))})


def test_each_peer_has_its_own_upload_in_both_engines_and_what_net_says_of_all_is_refused(
    tmp_path: Path,
) -> None:
    path = write_scenario(tmp_path, trace='upload_mbps_max\n0.5\n""\n')
    settings = scenario.load(path)
    assert settings.uploads_mbps() == (0.5, None)
    first, second = settings.peer_names
    assert own_settings(settings, first) == ["net.upload_mbps_max=0.5"]
    assert own_settings(settings, second) == []
    said = arguments(tmp_path, tmp_path, own=own_settings(settings, first))
    assert said[-2:] == ["--set", "net.upload_mbps_max=0.5"]
    with pytest.raises(
        SettingError, match=r"'upload_mbps_max' of each peer, and \[net\] upload_mbps_max = 2.0"
    ):
        scenario.load(path, values={"net.upload_mbps_max": 2.0})
    unlimited = scenario.load("quickstart")
    assert set(unlimited.uploads_mbps()) == {None}


def test_sessions_are_drawn_or_read_and_not_both(tmp_path: Path) -> None:
    churn = "[faults]\nchurn = { online_s = 5.0, offline_s = 1.0 }"
    path = write_scenario(tmp_path, churn, trace='online\n0-5\n""\n')
    with pytest.raises(SettingError, match=r"the trace says 'online' of each peer, and \[faults\] churn"):
        scenario.load(path)


def test_machines_that_are_taken_in_turn_are_told_at_the_start(tmp_path: Path) -> None:
    settings = scenario.load(write_scenario(tmp_path), values={"scenario.peers": 5, "peers.repeat": True})
    (note,) = settings.notes
    assert "2 machines for 5 peers are taken in turn (repeat = true): peer 2 is like peer 0" in note


def test_machines_that_no_peer_has_are_told_at_the_start(tmp_path: Path) -> None:
    settings = scenario.load(write_scenario(tmp_path, trace=LINKS + "5,6,0.3\n"))
    assert settings.notes == ("[peers] trace: 3 machines for 2 peers: the last of them is not used",)


def test_settings_of_a_trace_without_one_are_refused() -> None:
    for key, value in (("repeat", True), ("columns", ("online",))):
        with pytest.raises(SettingError, match=f"{key} belongs to a trace, and none is named"):
            scenario.load("quickstart", values={f"peers.{key}": value})


SMALL = {
    "scenario.peers": 4,
    "scenario.algorithm": "gossip-learning",
    "data.train_max": 200,
    "model.hidden": (8,),
    "protocol.period_s": 2.0,
    "stop.rounds": 6,
}


def test_a_trace_of_equal_machines_is_the_same_run_as_settings_for_all(tmp_path: Path) -> None:
    (tmp_path / "equal.csv").write_text("seconds_per_sample,down,up\n" + "0.01,0.05,0.05\n" * 4)
    said = {"network.bandwidth_mbps": 0.05, "compute.seconds_per_sample": 0.01}
    runs = [
        scenarios.run("quickstart", out=tmp_path / str(place), report=False, overrides={**SMALL, **chosen})
        for place, chosen in enumerate(({}, said, {"peers.trace": str(tmp_path / "equal.csv")}))
    ]
    plain, settings, trace = (run.summary["event_digest"] for run in runs)
    assert plain != settings == trace


def test_who_is_online_when_is_the_same_run_as_the_list_of_faults_that_says_it(tmp_path: Path) -> None:
    path = tmp_path / "online.csv"
    path.write_text('online\n""\n0-3;6.5-\n5-8.25\n""\n')
    faults = [
        {"at": 3, "do": "crash", "peers": [1]},
        {"at": 5, "do": "join", "peers": [2]},
        {"at": 6.5, "do": "restart", "peers": [1]},
        {"at": 8.25, "do": "crash", "peers": [2]},
    ]
    listed, traced = (
        scenarios.run("quickstart", out=tmp_path / str(place), report=False, overrides={**SMALL, **chosen})
        for place, chosen in enumerate(({"faults.list": faults}, {"peers.trace": str(path)}))
    )
    assert listed.summary["event_digest"] == traced.summary["event_digest"]
    assert traced.summary["faults"]["crashed"] == 2
    assert {peer["peer"]: peer["state"] for peer in traced.peers}["peer-02"] == "crashed"


@pytest.mark.parametrize(
    ("slow", "ends_s"),
    [
        ("9,9,0.1", {1: 5.0}),  # computes ten times as long
        (
            "0.05,9,0.01",
            {0: 1.67, 1: 0.5, 2: 1.67, 3: 1.67},
        ),  # its models come late, and it has the others' at once
        ("9,0.05,0.01", {0: 0.5, 1: 1.67, 2: 0.5, 3: 0.5}),  # the others' models come late to it
    ],
)
def test_a_peers_speed_and_link_decide_when_its_round_ends(
    tmp_path: Path, slow: str, ends_s: dict[int, float]
) -> None:
    """Fifty samples of 0.01 s are 0.5 s; three copies of 610 numbers at 0.05 Mbit/s are 1.17 s more."""
    path = tmp_path / "uneven.csv"
    path.write_text(f"up,down,seconds_per_sample\n9,9,0.01\n{slow}\n9,9,0.01\n9,9,0.01\n")
    chosen = {
        **{key: value for key, value in SMALL.items() if not key.startswith("protocol")},
        "scenario.algorithm": "dfedavg",
        "data.partition": {"kind": "iid"},
        "topology.kind": "full",
        "local.epochs": 1,
        "stop.rounds": 1,
        "peers.trace": str(path),
    }
    run = scenarios.run("quickstart", out=tmp_path / "run", report=False, overrides=chosen)
    times = {int(entry["peer"][-1]): entry["time"] for entry in run.metrics}
    assert {place: times[place] for place in ends_s} == pytest.approx(ends_s, abs=0.1)


# --- made up ---


def make(path: Path, *options: str) -> Trace:
    assert cli.call(["trace", str(path), *options]) == 0
    peers = int(options[options.index("--peers") + 1])
    return traces.read(PeersSettings(trace=str(path)), peers=peers)


def test_the_same_seed_makes_the_same_trace_and_a_longer_one_begins_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = ["--online-s", "600", "--offline-s", "300"]
    made = [
        make(tmp_path / f"{place}.csv", "--peers", peers, "--seed", seed, *sessions)
        for place, (peers, seed) in enumerate((("30", "1"), ("30", "1"), ("30", "2"), ("80", "1")))
    ]
    assert made[0] == made[1] != made[2]
    (said, *text), (said_too, *longer) = (
        (tmp_path / name).read_text().splitlines() for name in ("0.csv", "3.csv")
    )
    assert longer[: len(text)] == text
    assert said != said_too
    assert capsys.readouterr().out.count("[peers]\ntrace = ") == 4


def test_bandwidths_and_speeds_are_log_normal_and_sessions_as_long_as_asked(tmp_path: Path) -> None:
    options = [
        "--peers",
        "2000",
        "--up",
        "5",
        "--down",
        "20",
        "--bandwidth-spread",
        "0.5",
        "--speed-spread",
        "1",
    ]
    sessions = ["--online-s", "300", "--offline-s", "100", "--until-s", "4000"]
    found = make(tmp_path / "t.csv", *options, *sessions, "--seconds-per-sample", "0.01")
    for column, median, spread in (
        (found.up, 5, 0.5),
        (found.down, 20, 0.5),
        (found.seconds_per_sample, 0.01, 1),
    ):
        logarithms = np.log(np.array(column))
        assert np.exp(np.median(logarithms)) == pytest.approx(median, rel=0.1)
        assert logarithms.std() == pytest.approx(spread, rel=0.1)
    assert found.online is not None
    for time_s in (0, 1000, 3500):
        there = [not mine or any(a <= time_s < b for a, b in mine) for mine in found.online]
        assert np.mean(there) == pytest.approx(0.75, abs=0.04)
    lengths = [b - a for mine in found.online for a, b in mine[1:-1]]
    assert np.mean(lengths) == pytest.approx(300, rel=0.1)


def test_the_ready_trace_is_what_the_command_makes_that_stands_in_it(tmp_path: Path) -> None:
    ready = LIBRARY / "phones.csv"
    sharp, program, command, name, *options = ready.read_text(encoding="utf-8").splitlines()[0].split()
    assert (sharp, program, command, name) == ("#", "gossip-scenario", "trace", "phones.csv")
    make(tmp_path / name, *options)
    assert (tmp_path / name).read_text(encoding="utf-8") == ready.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["t.txt", "--peers", "3"], "t.txt: the name of a trace must end in .csv"),
        (["t.csv", "--peers", "3", "--up", "0"], "--up 0: must be above 0"),
        (["t.csv", "--peers", "3", "--up", "inf"], "--up inf: must be above 0"),
        (["t.csv", "--peers", "3", "--speed-spread", "9"], "--speed-spread 9: must be between 0 and 5"),
        (["t.csv", "--peers", "3", "--online-s", "9"], "--online-s and --offline-s belong together"),
        (["t.csv", "--peers", "3", "--online-s", "9", "--offline-s", "0"], "--offline-s 0: must be above 0"),
        (
            ["t.csv", "--peers", "3", "--online-s", "1", "--offline-s", "1", "--until-s", "1e9"],
            "some 500000000 sessions",
        ),
        (["t.csv", "--peers", "2000000"], "--peers 2000000: must be between 1 and 1000000"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.call(["trace", *options]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["nofolder/t.csv", "file/t.csv", "folder.csv", "closed/t.csv"])
def test_a_place_where_no_trace_can_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("folder.csv", "closed"):
        (tmp_path / folder).mkdir()

    def closed(path: Path, data: bytes, **_: bool) -> None:
        # Root may write anywhere.
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    if where.startswith("closed"):
        monkeypatch.setattr(synthetic_traces, "write_atomically", closed)
    path = tmp_path / where
    before = sorted(tmp_path.rglob("*"))
    assert cli.call(["trace", str(path), "--peers", "3"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gossip-scenario: {path}: cannot be written: ")
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_made_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    assert cli.call(["trace", str(path), "--peers", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"path": str(path), "peers": 3, "columns": ["up", "down", "seconds_per_sample"]}
