"""Runs on other machines: what travels, who is refused, what becomes of lost workers, and Slurm by a stand-in."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import scenarios
from gossip.errors import SettingError
from scenarios import sweep
from scenarios.clusters import local, parcels, versions
from scenarios.clusters.choice import choose
from scenarios.clusters.executor import ATTEMPTS_MAX, Ended, Executor, each_done
from scenarios.clusters.orders import HEADER_BYTES_MAX, arrive, order, work
from scenarios.clusters.parcels import BadParcel, pack, unpack
from scenarios.clusters.runs import Run
from scenarios.errors import RunFailed
from scenarios.standings import Standings
from tests.integration import killed_runs
from tests.integration.conftest import importing
from tests.tuned import TINY, small_data


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(TINY.replace("[data]", f'[data]\nsource = "{small_data(tmp_path)}"'))
    return sweep.plan(str(scenario), "virtual", ["local.lr=0.1"], [0, 1], tmp_path / "out")


def test_a_run_that_was_done_elsewhere_is_the_run_that_is_done_here(runs):
    ordered = order(runs[0])
    answer = work(ordered.data)
    arrive(runs[0], ordered, answer)
    assert sweep.is_done(runs[0])
    there = json.loads((runs[0].folder / "summary.json").read_text())["model_digest"]
    local.do(runs[0])
    assert json.loads((runs[0].folder / "summary.json").read_text())["model_digest"] == there
    with pytest.raises(RunFailed, match="not the run: it is the run of another scenario"):
        arrive(runs[1], order(runs[1]), answer)
    assert not sweep.is_done(runs[1])


def test_a_worker_that_would_do_another_run_is_refused_with_a_sentence(runs, monkeypatch):
    ordered = order(runs[0])
    Path(json.loads(ordered.data)["files"].popitem()[0]).write_bytes(b"others' samples")
    with pytest.raises(
        SettingError, match=r"cannot do local\.lr=0\.1 seed 0: its file /.*small\.npz.* is another"
    ):
        arrive(runs[0], ordered, work(ordered.data))
    ours = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: {**ours, "torch": "1.0", "Python": "2.7"})
    with pytest.raises(SettingError, match=r"it has Python 2\.7 instead of 3\.\d+, torch 1\.0 instead of"):
        arrive(runs[0], ordered, work(ordered.data))
    assert not runs[0].folder.exists()


def test_a_mistake_that_only_a_worker_finds_is_one_sentence(runs):
    said = json.loads(order(runs[0]).data)
    said["scenario"] = said["scenario"].replace("train_max = 90", "train_max = 0")
    with pytest.raises(SettingError, match=r"seed 0: .*train_max.* \(on "):
        arrive(runs[0], order(runs[0]), work(json.dumps(said).encode()))


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\x", "peers/a/identity.pem", ""])
def test_an_archive_that_names_a_file_outside_or_a_key_writes_nothing(tmp_path, name):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(BadParcel):
        unpack(made.getvalue(), tmp_path / "run", scenario="")
    assert not list(tmp_path.rglob("*"))


def test_keys_stay_and_damage_is_found(tmp_path):
    home = tmp_path / "run" / "peers" / "a"
    home.mkdir(parents=True)
    (home / "identity.pem").write_text("secret")
    (home / "model").write_text("m" * 1000)
    parcel = pack(tmp_path / "run")
    with zipfile.ZipFile(io.BytesIO(parcel)) as archive:
        assert archive.namelist() == ["peers/a/model"]
    for wrong in (parcel[:50], b"", parcel.replace(b"peers/a/model", b"peers/a/mode/"), b"\0" * 100):
        with pytest.raises(BadParcel):
            unpack(wrong, tmp_path / "other", scenario="")


def test_what_is_too_large_is_neither_packed_nor_unpacked(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "run" / name).write_text("x" * 100)
    parcel = pack(tmp_path / "run")
    for bound in ("FILES_MAX", "UNPACKED_BYTES_MAX"):
        with monkeypatch.context() as changed:
            changed.setattr(parcels, bound, 2)
            with pytest.raises(BadParcel, match="more than is sent"):
                pack(tmp_path / "run")
            with pytest.raises(BadParcel, match="it is too large"):
                unpack(parcel, tmp_path / "other", scenario="")
    assert not (tmp_path / "other").exists()


def test_an_answer_without_an_end_of_its_head_is_refused(runs):
    with pytest.raises(RunFailed, match="its head is too long"):
        arrive(runs[0], order(runs[0]), b"[" * (HEADER_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("engine", "cluster", "hosts", "said"),
    [
        ("virtual", "ray://h:1", None, "live in one process; use --engine processes"),
        ("processes", "slurm", None, "a sweep takes slurm"),
        ("processes", "ray://h:1", "hosts.txt", "both say where peers run"),
    ],
)
def test_machines_for_whom_they_are_not_are_one_sentence(tmp_path, engine, cluster, hosts, said):
    with pytest.raises(SettingError, match=said):
        scenarios.run("quickstart", engine=engine, cluster=cluster, hosts=hosts, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Losing(Executor):
    """Loses the first workers of each run."""

    def __init__(self, times: int) -> None:
        self.times, self.waiting, self.cancelled = times, list[Run](), False
        self.seen: dict[Run, int] = {}

    def submit(self, runs: Sequence[Run]) -> None:
        self.waiting += runs

    def completed(self) -> Iterator[Ended]:
        while self.waiting:
            run = self.waiting.pop(0)
            self.seen[run] = self.seen.get(run, 0) + 1
            yield Ended(run, "it is gone" if self.seen[run] <= self.times else None)

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None:
        pass


def test_the_runs_of_lost_workers_are_done_again_but_not_for_ever(runs):
    patient = Losing(ATTEMPTS_MAX - 1)
    assert list(each_done(patient, runs)) == runs
    assert not patient.cancelled
    hopeless = Losing(ATTEMPTS_MAX)
    with pytest.raises(RunFailed, match=f"seed 0: the worker was lost {ATTEMPTS_MAX} times, .* it is gone"):
        list(each_done(hopeless, runs))
    assert hopeless.cancelled


def test_a_killed_process_of_this_machine_loses_no_run_and_is_not_told_to_go_on(runs, monkeypatch, tmp_path):
    monkeypatch.setattr(local, "do", killed_runs.do)
    standings = Standings(tmp_path)
    done = list(each_done(local.Local(1, standings), runs))
    assert done == runs
    assert [standings.of(run.folder) for run in runs] == [None] * len(runs)
    assert all((run.folder / "done").exists() for run in runs)


@pytest.mark.parametrize(
    ("cluster", "settings", "jobs", "sentence"),
    [
        ("kubernetes", [], None, "must be local, slurm or ray://HOST:PORT"),
        ("local", ["partition=gpu"], None, "takes no settings"),
        ("slurm", ["partition"], None, "must look like KEY=VALUE"),
        ("slurm", [], 4, "--jobs: is for --cluster local"),
        ("ray://h:1", ["num_gpu=1"], None, "did you mean 'num_gpus'"),
        ("ray://h:1", ["num_gpus=x"], None, "must be a number"),
    ],
)
def test_wrong_clusters_are_one_sentence(tmp_path, cluster, settings, jobs, sentence):
    with pytest.raises(SettingError, match=sentence):
        choose(cluster, settings, engine="virtual", runs=1, jobs=jobs, folder=tmp_path)


@pytest.mark.parametrize(("cluster", "extra"), [("slurm", "slurm"), ("ray://127.0.0.1:1", "ray")])
def test_what_is_not_installed_is_one_sentence(tmp_path, monkeypatch, cluster, extra):
    for module in ("submitit", "grpc"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingError, match=rf"not installed: pip install 'gossip-node\[{extra}\]'"):
        choose(cluster, [], engine="virtual", runs=1, jobs=None, folder=tmp_path)


def test_slurm_is_asked_as_its_settings_say_and_a_job_that_fails_is_told(runs, tmp_path, monkeypatch):
    with importing("torture") as tool:
        monkeypatch.setenv("PATH", tool("slurm_stub").install(tmp_path / "slurm"))
    shared = tmp_path / "out" / ".slurm"
    with pytest.raises(SettingError, match="did you mean 'partition'"):
        choose("slurm", ["partitoin=gpu"], engine="virtual", runs=1, jobs=None, folder=tmp_path / "out")
    settings = ["partition=gpu", "time=5", "mem_gb=2", 'account="a"']
    executor = choose("slurm", settings, engine="virtual", runs=1, jobs=None, folder=tmp_path / "out")
    assert list(each_done(executor, runs[:1])) == runs[:1]
    assert sweep.is_done(runs[0])
    script = (tmp_path / "slurm" / "state" / "100.sh").read_text()
    for line in ("--partition=gpu", "--time=5", "--mem=2GB", "--account=a", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script
    assert shared.stat().st_mode & 0o077 == 0
    (tmp_path / "slurm" / "bin" / "sbatch").write_text("#!/bin/sh\necho no such partition >&2; exit 1")
    with pytest.raises(SettingError, match=r"sbatch refuses: .*no such partition"):
        executor.submit(runs[1:])
