"""The files of `examples/extending`: found by `python:FILE:NAME` in both engines and on real nodes."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

import scenarios
from gossip.config.loading import load_task
from gossip.errors import GossipError, SettingError
from scenarios.scenario import load

EXAMPLES = Path(__file__).parents[2] / "examples" / "extending"
DOORS = {
    "merge": {"merge.kind": "own_merge.py:HalfMedian", "merge.share": 0.4},
    "update": {"local.optimizer.kind": "own_update.py:QuasiGlobal", "local.momentum": 0.9, "local.lr": 0.02},
    "codec": {"codec.kind": "own_codec.py:OneScaleInt8"},
    "outgoing": {"outgoing.kind": "own_outgoing.py:ClipAndNoise", "outgoing.norm": 30.0},
    "objective": {"objective.kind": "own_objective.py:Margin", "objective.margin": 2.0},
    "topology": {"topology.kind": "own_topology.py:wheel"},
    "protocol": {"protocol.kind": "own_protocol.py:RandomPairs"},
    "partition": {"data.partition.kind": "own_partition.py:geometric", "data.partition.ratio": 1.2},
    "attack": {"attack.kind": "own_attack.py:ReversedUpdate", "attack.scale": 0.5, "attack.count": 1},
}
SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 5,
    "stop.rounds": 3,
    "local.epochs": 3,
    "topology.kind": "full",
}


def settings(door: str) -> dict[str, object]:
    own = {
        key: f"python:{EXAMPLES / str(value)}" if key.endswith("kind") else value
        for key, value in DOORS[door].items()
    }
    return {**SMALL, **own}


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few small peers leave nothing behind, and to look for it would take longer than they do."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("own_*.py")), ids=lambda path: path.stem)
def test_each_is_at_most_forty_lines_and_no_part_of_the_package(path: Path) -> None:
    assert path.stem.removeprefix("own_") in {*DOORS, "logger"}
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) <= 40


@pytest.fixture(scope="module")
def plain_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What comes of the run with nothing of a user's."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    digest: str = scenarios.run("quickstart", overrides=SMALL, report=False, out=out).summary["model_digest"]
    return digest


@pytest.mark.parametrize("door", DOORS)
def test_what_a_user_brings_acts_in_the_virtual_engine_and_equal_seeds_give_equal_runs(
    door: str, tmp_path: Path, plain_digest: str
) -> None:
    own = scenarios.run("quickstart", overrides=settings(door), report=False, out=tmp_path / "own")
    again = scenarios.run("quickstart", overrides=settings(door), report=False, out=tmp_path / "again")
    assert own.summary["model_digest"] != plain_digest
    if door != "outgoing":  # whose noise is the operating system's
        assert own.summary["model_digest"] == again.summary["model_digest"]
    assert own.summary["accuracy"]["mean"] > 0.5


def test_equal_settings_in_another_folder_agree_and_another_content_does_not(tmp_path: Path) -> None:
    told = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(EXAMPLES / "own_merge.py", folder)
        (folder / "task.toml").write_text('[merge]\nkind = "python:own_merge.py:HalfMedian"\n')
        told.append(load_task(folder / "task.toml").agreement()["merge"])
    assert told[0] == told[1]
    with (folder / "own_merge.py").open("a") as file:
        file.write("# changed\n")
    assert load_task(folder / "task.toml").agreement()["merge"] != told[0]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("python:nowhere.py:Rule", "there is no file"),
        ("python:rule.py:Nothing", "has no function 'Nothing'"),
        ("python:rule.py:Stranger", "is no Merge"),
        ("python:rule.py", "write python:FILE:FUNCTION"),
        ("python:broken.py:Rule", "fails: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_one_sentence_that_names_file_and_line(
    kind: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "rule.py").write_text("class Stranger:\n    pass\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    task = tmp_path / "task.toml"
    task.write_text(f'seed = 1\n[merge]\nkind = "{kind}"\n')
    with pytest.raises(SettingError) as caught:
        load_task(task)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"{task}:2: [merge]")
    assert "\n" not in str(caught.value)


def test_a_users_settings_are_checked_like_ours(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "own_merge.py", tmp_path)
    task = tmp_path / "task.toml"
    task.write_text('[merge]\nkind = "python:own_merge.py:HalfMedian"\nshare = 2.0\n')
    with pytest.raises(SettingError, match=r"share = 2.0: must be less than or equal to 1"):
        load_task(task)
    task.write_text('[merge]\nkind = "python:own_merge.py:HalfMedian"\nshaer = 0.5\n')
    with pytest.raises(SettingError, match="unknown key 'shaer'; did you mean 'share'"):
        load_task(task)


@pytest.mark.parametrize(
    "doors",
    [
        ("merge", "update", "codec", "outgoing", "objective", "topology", "partition", "attack"),
        ("protocol",),
    ],
)
def test_what_a_user_brings_acts_on_real_nodes(doors: tuple[str, ...], tmp_path: Path) -> None:
    together = dict(SMALL)
    for door in doors:
        together |= {key: value for key, value in settings(door).items() if value != SMALL.get(key)}
    result = scenarios.run(
        "quickstart", engine="processes", overrides=together, report=False, out=tmp_path / "run"
    )
    assert {peer["state"] for peer in result.peers} == {"finished"}
    assert result.summary["accuracy"]["mean"] > 0.3  # of ten classes


def test_a_codec_that_sends_zeros_changes_what_is_learnt_in_both_engines(tmp_path: Path) -> None:
    (tmp_path / "zeros.py").write_text(
        "from gossip.wire.codecs.float32 import Float32\n"
        "class Zeros(Float32):\n"
        "    exact = False\n"
        "    def decode(self, tensors):\n"
        "        return super().decode(tensors) * 0\n"
    )
    run = {**SMALL, "scenario.peers": 3, "stop.rounds": 2, "topology.kind": "full"}
    zeros = {**run, "codec.kind": f"python:{tmp_path / 'zeros.py'}:Zeros"}
    accuracies = {}
    for engine in ("virtual", "processes"):
        for name, chosen in (("plain", run), ("zeros", zeros)):
            out = tmp_path / f"{engine}-{name}"
            result = scenarios.run("quickstart", engine=engine, overrides=chosen, report=False, out=out)
            accuracies[engine, name] = result.summary["accuracy"]["mean"]
    assert accuracies["virtual", "zeros"] == pytest.approx(accuracies["processes", "zeros"], abs=0.01)
    assert accuracies["virtual", "plain"] == pytest.approx(accuracies["processes", "plain"], abs=0.01)
    assert abs(accuracies["virtual", "zeros"] - accuracies["virtual", "plain"]) > 0.02


def test_files_in_overrides_of_a_call_lie_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLES / "own_merge.py", tmp_path)
    shutil.copy(EXAMPLES / "own_attack.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    scenario = load(
        "quickstart",
        values={
            "merge.kind": "python:own_merge.py:HalfMedian",
            "attack.kind": "mixed",
            "attack.kinds": ["python:own_attack.py:ReversedUpdate"],
            "attack.count": 1,
        },
    )
    assert scenario.merge.kind == f"python:{tmp_path / 'own_merge.py'}:HalfMedian"
    assert scenario.attack.kinds == (f"python:{tmp_path / 'own_attack.py'}:ReversedUpdate",)


def test_files_in_a_scenario_lie_beside_it(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "own_attack.py", tmp_path)
    own = "python:own_attack.py:ReversedUpdate"
    (tmp_path / "mine.toml").write_text(
        f'[scenario]\npeers = 4\n[attack]\nkind = "mixed"\nkinds = ["{own}"]\ncount = 1\n'
    )
    assert load(tmp_path / "mine.toml").attack.kinds == (
        f"python:{tmp_path / 'own_attack.py'}:ReversedUpdate",
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("1 / 0", "fails: ZeroDivisionError: division by zero"),
        ("return [range(3)] * (peers - 1)", "must return one array a peer: 3 for 4 peers"),
        ("return [numpy.arange(0)] * peers", "peer 0's must be whole numbers, one or more"),
        ("return [[0.5]] * peers", "peer 0's must be whole numbers, one or more"),
        ("return [[10**7]] * peers", r"peer 0's samples are 10000000 to 10000000; valid: 0 to \d+"),
        (
            "return [range(place, len(labels), peers) for place in numpy.random.permutation(peers)]",
            "otherwise each",
        ),
        (
            "return numpy.array_split(numpy.random.default_rng().permutation(len(labels)), peers)",
            "otherwise each",
        ),
        ("counted.append(1)\n    return [[len(counted)]] * peers", "otherwise each time that it is asked"),
        ("return [[-1]] * peers", r"peer 0's samples are -1 to -1; valid: 0 to \d+"),
    ],
)
def test_a_users_partition_that_does_not_divide_is_one_sentence(
    body: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        f"import numpy\ncounted = []\ndef own(labels, peers, settings, generator):\n    {body}\n"
    )
    values = {
        "scenario.peers": 4,
        "stop.rounds": 1,
        "data.partition.kind": f"python:{tmp_path / 'own.py'}:own",
    }
    with pytest.raises(SettingError, match=f"partition 'python:.*own.py:own'.* {sentence}") as caught:
        scenarios.run("quickstart", overrides=values, report=False, out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_topology_that_is_not_there_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[scenario]\npeers = 4\n[topology]\nkind = "python:nowhere.py:wheel"\n')
    with pytest.raises(SettingError, match=rf"{path}:3: \[topology\] kind = .*: there is no file"):
        load(path)


def test_a_protocol_whose_file_has_changed_runs_again_in_one_process(tmp_path: Path) -> None:
    path = tmp_path / "own_protocol.py"
    values = {**SMALL, "stop.rounds": 1, "protocol.kind": f"python:{path}:RandomPairs"}
    digests = set()
    for end in ("", "# changed, and not in what it does\n"):
        path.write_text((EXAMPLES / "own_protocol.py").read_text() + end)
        run = scenarios.run("quickstart", overrides=values, report=False, out=tmp_path / "run", force=True)
        digests.add(run.summary["model_digest"])
    assert len(digests) == 1


def test_a_message_that_is_called_as_one_of_ours_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "own_protocol.py"
    path.write_text((EXAMPLES / "own_protocol.py").read_text().replace('"pair"', '"heartbeat"', 1))
    values = {**SMALL, "protocol.kind": f"python:{path}:RandomPairs"}
    with pytest.raises(SettingError, match=r"\[protocol\] RandomPairs: message kind 'heartbeat'"):
        scenarios.run("quickstart", overrides=values, report=False, out=tmp_path / "run")


def test_an_attack_of_ones_own_that_sees_all_is_shown_the_honest_models_and_refused_with_real_nodes(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(
        "from scenarios.attacks.base import Attack\n"
        "from scenarios.attacks.choice import AttackSettings\n"
        "class AgainstTheMean(Attack):\n"
        "    class Settings(AttackSettings):\n"
        "        omniscient = True\n"
        "        honest_min = 2\n"
        "    def craft(self, known):\n"
        "        assert len(known.honest) == 4\n"
        "        return -known.honest.mean(0)\n"
    )
    values = {
        **SMALL,
        "stop.rounds": 1,
        "attack.kind": f"python:{tmp_path / 'own.py'}:AgainstTheMean",
        "attack.count": 1,
    }
    scenarios.run("quickstart", overrides=values, report=False, out=tmp_path / "run")
    with pytest.raises(SettingError, match="must see the honest peers' models"):
        scenarios.run("quickstart", engine="processes", overrides=values, report=False, out=tmp_path / "run2")
    with pytest.raises(SettingError, match="needs at least 2 honest peers"):
        load("quickstart", values={**values, "attack.count": 4})


MISTAKES = {
    "update-shape": (
        "local.optimizer.kind",
        "class Own(gossip.LocalUpdate):\n"
        "    def step(self, gradient, models, state, lr):\n"
        "        return gradient(models)[0], state\n",
        "step returns as models (4810,) torch.float32; it must be float32 of shape (2, 4810)",
    ),
    "update-rows": (
        "local.optimizer.kind",
        "class Own(gossip.LocalUpdate):\n"
        "    def rows(self, space):\n"
        "        return {'v': gossip.Rows(space.trained_size)}\n"
        "    def step(self, gradient, models, state, lr):\n"
        "        return models - lr * gradient(models), {}\n",
        "step returns the rows []; `rows` says ['v']",
    ),
    "update-in-place": (
        "local.optimizer.kind",
        "class Own(gossip.LocalUpdate):\n"
        "    def step(self, gradient, models, state, lr):\n"
        "        return models.sub_(lr * gradient(models)), state\n",
        "changes what it is given: models; return new tensors",
    ),
    "update-fails": (
        "local.optimizer.kind",
        "class Own(gossip.LocalUpdate):\n"
        "    def step(self, gradient, models, state, lr):\n"
        "        return models - self.local.learning_rate, state\n",
        "fails when it is tried: AttributeError",
    ),
    "outgoing-type": (
        "outgoing.kind",
        "class Own(gossip.Outgoing):\n"
        "    def send(self, models, state, draws):\n"
        "        return models.double(), state\n",
        "send returns as models (2, 4810) torch.float64",
    ),
    "codec-draws": (
        "codec.kind",
        "import os\n"
        "from gossip.wire.codecs.float32 import Float32\n"
        "class Own(Float32):\n"
        "    exact = False\n"
        "    def encode(self, vector, draws):\n"
        "        return super().encode(vector + int.from_bytes(os.urandom(2), 'big'), draws)\n",
        "encode makes other bytes of the same numbers and draws",
    ),
    "codec-exact": (
        "codec.kind",
        "from gossip.wire.codecs.float32 import Float32\n"
        "class Own(Float32):\n"
        "    def decode(self, tensors):\n"
        "        return super().decode(tensors) * 0\n",
        "says that it is exact, and decode returns other numbers",
    ),
    "codec-specs": (
        "codec.kind",
        "from gossip.wire.codecs.halves import BFloat16\n"
        "class Own(BFloat16):\n"
        "    def specs(self, elements):\n"
        "        return ()\n",
        "encode makes other tensors of",
    ),
    "codec-coded": (
        "codec.kind",
        "from gossip.wire.codecs.halves import BFloat16\n"
        "class Own(BFloat16):\n"
        "    def coded(self, vectors, draws):\n"
        "        return vectors\n",
        "coded returns other numbers than decode",
    ),
    "merge-shape": (
        "merge.kind",
        "class Own(gossip.Merge):\n"
        "    def __init__(self, settings):\n"
        "        pass\n"
        "    def __call__(self, own, own_weight, received, *, context):\n"
        "        return own[:-1]\n",
        "returns for a model (4809,) torch.float32",
    ),
    "merge-not-finite": (
        "merge.kind",
        "class Own(gossip.Merge):\n"
        "    def __call__(self, own, own_weight, received, *, context):\n"
        "        return own / 0\n",
        "returns for a model numbers that are not finite",
    ),
    "merge-in-place": (
        "merge.kind",
        "class Own(gossip.Merge):\n"
        "    def __init__(self, settings):\n"
        "        pass\n"
        "    def __call__(self, own, own_weight, received, *, context):\n"
        "        return own.mul_(0.5)\n",
        "changes what it is given: own",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_stage_that_is_none_is_refused_before_anything_starts_in_one_sentence(
    mistake: str, tmp_path: Path
) -> None:
    key, text, sentence = MISTAKES[mistake]
    (tmp_path / "own.py").write_text(f"import gossip\n{text}")
    own = {**SMALL, key: f"python:{tmp_path / 'own.py'}:Own"}
    for engine in ("virtual", "processes") if mistake == "update-shape" else ("virtual",):
        with pytest.raises(SettingError) as caught:
            scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / engine)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"[{key.removesuffix('.kind').partition('.')[0]}]")


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_a_users_rule_that_fails_in_the_middle_is_one_sentence(engine: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import gossip\n"
        "class Late(gossip.Merge):\n"
        "    def __call__(self, own, own_weight, received, *, context):\n"
        "        if context.at.round == 1 and context.peer != 'a':\n"
        "            raise ValueError('no more')\n"
        "        return own.clone()\n"
    )
    own = {**SMALL, "scenario.peers": 2, "merge.kind": f"python:{tmp_path / 'own.py'}:Late"}
    with pytest.raises(GossipError, match=r"\[merge\] in round 1: Late fails: ValueError: no more"):
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")


FAILING = {
    "local.optimizer.kind": (
        "class Late(gossip.LocalUpdate):\n"
        "    def step(self, gradient, models, state, lr):\n"
        "        calls.append(1)\n"
        "        if len(calls) > 8:\n"
        "            raise ValueError('no more')\n"
        "        return models - lr * gradient(models), state\n",
        r"\[local\] optimizer Late fails: ValueError: no more",
    ),
    "outgoing.kind": (
        "class Late(gossip.Outgoing):\n"
        "    def send(self, models, state, draws):\n"
        "        calls.append(1)\n"
        "        if len(calls) > 8:\n"
        "            raise ValueError('no more')\n"
        "        return models * 1, state\n",
        r"\[outgoing\] Late fails: ValueError: no more",
    ),
    "codec.kind": (
        "from gossip.wire.codecs.halves import BFloat16\n"
        "class Late(BFloat16):\n"
        "    def encode(self, vector, draws):\n"
        "        calls.append(1)\n"
        "        if len(calls) > 8:\n"
        "            raise ValueError('no more')\n"
        "        return super().encode(vector, draws)\n"
        "    def coded(self, vectors, draws):\n"
        "        return super(BFloat16, self).coded(vectors, draws)\n",
        r"\[codec\] Late fails: ValueError: no more",
    ),
}


@pytest.mark.parametrize("engine", ["virtual", "processes"])
@pytest.mark.parametrize("key", FAILING)
def test_a_users_stage_that_fails_in_the_middle_is_one_sentence(
    key: str, engine: str, tmp_path: Path
) -> None:
    text, sentence = FAILING[key]
    (tmp_path / "own.py").write_text(f"import gossip\ncalls = []\n{text}")
    own = {
        **SMALL,
        "scenario.peers": 2,
        "scenario.strict": True,  # the one that ends first would leave the other without anybody to send to
        "stop.rounds": 12,
        key: f"python:{tmp_path / 'own.py'}:Late",
    }
    with pytest.raises(GossipError, match=sentence):
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")
