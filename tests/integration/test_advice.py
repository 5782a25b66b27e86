"""`gossip-scenario advise`: what it says is what runs count, of every method there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from gossip.errors import SettingError
from gossip.net.settings import bytes_per_second
from gossip.protocols.settings import PROTOCOLS
from gossip.wire.codecs.settings import CODECS
from scenarios import cli
from scenarios.advice.costs import Link, cost_of
from scenarios.advice.methods import CODEC, Method, methods
from scenarios.advice.table import BASE_VALUES, load
from scenarios.processes.averages import load_task
from topologies.families import FAMILIES

PEERS, ROUNDS = 5, 4
SMALL = {
    "data.train_max": 100,
    "data.test_max": 20,
    "model.name": "logistic",
    "local.epochs": 1,
    "evaluate.every": 100,
}
LINK = Link(mbps=1.0, latency_s=0.02)
SPOKEN = {"modest", "fedavg", "push"}
"""Whose small messages and pushes go by the clock, which a run with training has another of."""
REFERRING = {
    str(choice.model_fields["kind"].default)
    for choice in CODECS.ours()
    if choice.model_validate({"kind": choice.model_fields["kind"].default}).load().reference != "none"
}


def counted_and_told(folder: Path, method: Method, rounds: int) -> tuple[int, int]:
    """Return the bytes of a run, and those that are told of it without one."""
    overrides = [f"{key}={value}" for key, value in SMALL.items()]
    try:
        chosen = load(None, method, peers=PEERS, rounds=rounds, overrides=overrides)
    except SettingError as error:
        pytest.skip(str(error))
    cost = cost_of(chosen, parameters=load_task(chosen).space.learned_size, link=LINK)
    said = {**BASE_VALUES, **SMALL, "scenario.peers": PEERS, "stop.rounds": rounds, **method.values}
    run = scenarios.run("quickstart", out=folder / str(rounds), report=False, overrides=said)
    return run.summary["bytes"]["protocol"], cost.bytes_total


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.name)
def test_the_bytes_of_every_method_are_those_that_a_run_counts(tmp_path: Path, method: Method) -> None:
    counted, told = counted_and_told(tmp_path, method, ROUNDS)
    if method.values.get("codec.kind") in REFERRING:
        # Whoever hears somebody for the first time is sent all; what a round costs shows later.
        more, told_more = counted_and_told(tmp_path, method, 2 * ROUNDS)
        assert more - counted == told_more - told
    elif str(method.values.get("protocol.kind")) in SPOKEN:
        assert told == pytest.approx(counted, rel=0.2)
    else:
        assert told == counted


def test_no_method_of_the_tables_is_forgotten() -> None:
    found = {method.name for method in methods()}
    tables = [
        *FAMILIES,
        *(str(choice.model_fields["kind"].default) for choice in (*CODECS.ours(), *PROTOCOLS.ours())),
    ]
    assert set(tables) - {"file"} <= found
    assert all(method.when for method in methods())


def test_a_round_takes_what_the_bytes_take_and_latency_on_top() -> None:
    chosen = load(None, None, peers=PEERS, rounds=ROUNDS, overrides=())
    for latency_s in (0.0, 0.5):
        cost = cost_of(chosen, parameters=1_000_000, link=Link(mbps=1.0, latency_s=latency_s))
        assert cost.seconds == pytest.approx(
            cost.bytes_per_peer / bytes_per_second(1.0) + latency_s, rel=0.01
        )


def test_the_command_says_it_as_json_and_takes_settings_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["advise", "--parameters", "1000000", "--mbps", "2", "--peers", "8", "--json"]
    assert cli.call(argv) == 0
    plain = json.loads(capsys.readouterr().out)
    assert cli.call([*argv, "--set", "codec.kind=float16"]) == 0
    halved = json.loads(capsys.readouterr().out)
    assert plain["mbps"] == 2
    for one, other in zip(plain["methods"], halved["methods"], strict=True):
        assert one["method"] == other["method"]
        if one["group"] == CODEC:
            assert one["bytes_total"] == other["bytes_total"]
        elif one["set"].get("protocol.kind") not in SPOKEN and "final.steps" not in one["set"]:
            assert other["bytes_total"] == pytest.approx(one["bytes_total"] / 2, rel=0.01)


def test_too_many_peers_are_refused_with_what_would_be_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["advise", "--parameters", "10", "--peers", "1000"]) == 2
    assert "valid are 2 to 128" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (["--parameters", "1", "--mbps", "1e-6", "--peers", "2"], "1 numbers of the model travel"),
        (["--parameters", "1000000000000000", "--mbps", "1e9", "--peers", "3"], "has at most 4294967295"),
        (["--parameters", "4000000000", "--peers", "2"], "has at most 4294967295"),
        (["--parameters", "1", "--mbps", "1e12", "--latency-ms", "1e9", "--peers", "2"], "1 numbers"),
    ],
)
def test_methods_that_a_model_is_too_small_or_too_large_for_are_left_out_with_a_sentence(
    link: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["advise", *link, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any(why in each["why"] for each in told["left_out"])
    assert all(method["bytes_total"] > 0 for method in told["methods"])


@pytest.mark.parametrize("option", ["--parameters", "--mbps", "--latency-ms"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e400", "-1"])
def test_a_link_that_is_none_is_refused_in_one_sentence(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["advise", option, value]) == 2
    assert option in capsys.readouterr().err
