"""What supervisors and Prometheus are answered: names, units, bounds, and the reasons of a node that is not well."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gossip.errors import SettingError
from gossip.node.report import counts
from gossip.telemetry import web as served
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.addresses import parsed
from gossip.telemetry.health import LOOP_STALL_S, Published, not_ready, unhealthy
from gossip.telemetry.prometheus import LABELS_MAX, OTHER
from gossip.telemetry.web import Web


def status(**other: Any) -> dict[str, Any]:
    accounting = Accounting()
    accounting.sent.count("model", 1000, payload_bytes=900)
    accounting.sent.count("heartbeat", 10, transport=True)
    accounting.reject("norm")
    accounting.drop("replaced")
    return {
        "name": "alice",
        "state": "running",
        "round": 7,
        "round_in_progress": 9,
        "rounds": 30,
        "algorithm": "dfedsam",
        "topology": None,
        "accuracy": 0.5,
        "test_loss": 1.25,
        "training_loss": 1.5,
        "run_id": "ab",
        "space_id": "cd",
        "neighbours": [
            {"name": "bob", "up": True, "rtt_ms": 2.5, "sent_bytes": 5, "received_bytes": 6},
            {"name": "carol", "up": False, "rtt_ms": None, "sent_bytes": 0, "received_bytes": 0},
        ],
        "quorum": {"up": 1, "needed": 1, "there": True},
        "checkpoint": {"round": 7, "age_s": 3.0, "failures": 2, "error": None},
        "phase_seconds": {"train": 1.0, "merge": 0.5, "evaluate": 0.25, "wait": 2.0, "checkpoint": 0.1},
        "failures": {"metrics not written": 3},
        **counts(accounting),
        **other,
    }


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(":0", version="9.9")
    yield web
    web.close()


def ask(web: Web, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def series(web: Web) -> dict[tuple[str, tuple[str, ...]], float]:
    code, text = ask(web, "/metrics")
    assert code == 200
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.values()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def test_the_metrics_tell_what_the_status_says(web: Web) -> None:
    web.publish(status())
    found = series(web)
    wanted = {
        ("gossip_rounds_total", ()): 7,
        ("gossip_round_in_progress", ()): 9,
        ("gossip_training_loss", ()): 1.5,
        ("gossip_test_loss", ()): 1.25,
        ("gossip_test_accuracy_ratio", ()): 0.5,
        ("gossip_neighbour_up", ("bob",)): 1,
        ("gossip_neighbour_up", ("carol",)): 0,
        ("gossip_neighbour_rtt_seconds", ("bob",)): 0.0025,
        ("gossip_neighbour_sent_bytes_total", ("bob",)): 5,
        ("gossip_neighbour_received_bytes_total", ("bob",)): 6,
        ("gossip_sent_bytes_total", ("payload",)): 900,
        ("gossip_sent_bytes_total", ("framing",)): 100,
        ("gossip_sent_bytes_total", ("transport",)): 10,
        ("gossip_sent_messages_total", ("model",)): 1,
        ("gossip_rejected_messages_total", ("norm",)): 1,
        ("gossip_dropped_messages_total", ("replaced",)): 1,
        ("gossip_phase_seconds_total", ("train",)): 1.0,
        ("gossip_phase_seconds_total", ("checkpoint",)): 0.1,
        ("gossip_checkpoint_age_seconds", ()): 3.0,
        ("gossip_checkpoint_failures_total", ()): 2,
        ("gossip_checkpoint_writable", ()): 1,
        ("gossip_contained_failures_total", ("metrics not written",)): 3,
        ("gossip_state", ("running",)): 1,
        ("gossip_state", ("waiting",)): 0,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert ("gossip_neighbour_rtt_seconds", ("carol",)) not in found
    assert any(name == "gossip_build_info" and "9.9" in labels for name, labels in found)
    assert any(name == "process_resident_memory_bytes" for name, _ in found)


def test_names_follow_the_conventions(web: Web) -> None:
    web.publish(status())
    for family in text_string_to_metric_families(ask(web, "/metrics")[1]):
        if not family.name.startswith("gossip_"):
            continue
        assert re.fullmatch(r"[a-z][a-z_]*", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        assert not re.search(r"(_ms|_milliseconds|_kb|_percent)$", family.name)
        assert family.documentation


def test_what_is_not_known_or_not_finite_is_left_out_and_ends_nothing(web: Web) -> None:
    lost = {"round": 0, "age_s": None, "failures": 1, "error": "No space left on device"}
    web.publish(status(test_loss=None, training_loss=None, accuracy=None, checkpoint=lost))
    found = series(web)
    assert not {"gossip_test_loss", "gossip_training_loss", "gossip_test_accuracy_ratio"} & {
        n for n, _ in found
    }
    assert found["gossip_checkpoint_writable", ()] == 0


def test_labels_are_bounded(web: Web) -> None:
    reasons = {f"reason-{number:04}": 1 for number in range(LABELS_MAX + 50)}
    web.publish(status(rejected_messages=reasons))
    rejected = {
        labels[0]: value
        for (name, labels), value in series(web).items()
        if name.startswith("gossip_rejected")
    }
    assert len(rejected) == LABELS_MAX + 1
    assert rejected[OTHER] == 50


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({}, []),
        ({"state": "waiting"}, ["the node is waiting"]),
        ({"state": "unsaved"}, ["the node is unsaved"]),
        (
            {"quorum": {"up": 1, "needed": 2, "there": False}},
            ["1 neighbours are up, at least 2 are needed"],
        ),
        (
            {"checkpoint": {"error": "No space left on device"}},
            ["checkpoints cannot be written: No space left on device"],
        ),
    ],
)
def test_a_node_is_ready_when_it_learns_with_a_quorum_and_can_save_and_alive_in_any_case(
    other: dict[str, Any], why: list[str]
) -> None:
    published = Published(status(**other), said_s=100.0)
    assert not_ready(published, 101.0) == why
    assert unhealthy(published, 101.0) == []


def test_a_loop_that_does_not_turn_is_neither_alive_nor_ready() -> None:
    published = Published(status(), said_s=100.0)
    for judge in (unhealthy, not_ready):
        assert judge(published, 100.0 + LOOP_STALL_S) == []
        (reason,) = judge(published, 101.0 + LOOP_STALL_S)
        assert reason == f"the event loop has not turned for {LOOP_STALL_S + 1:.0f} s"
        assert judge(None, 0.0) == ["the event loop has not begun"]


def test_health_and_readiness_are_answered_with_reasons_and_codes(web: Web) -> None:
    assert ask(web, "/healthz")[0] == 503
    assert ask(web, "/metrics")[0] == 404, "nothing is published yet"
    web.publish(status(state="waiting"))
    code, text = ask(web, "/healthz")
    assert (code, json.loads(text)) == (
        200,
        {"ok": True, "reasons": [], "name": "alice", "state": "waiting", "round": 7, "round_in_progress": 9},
    )
    code, text = ask(web, "/readyz")
    assert (code, json.loads(text)["reasons"]) == (503, ["the node is waiting"])
    assert ask(web, "/other")[0] == 404


def test_a_status_that_makes_no_sense_costs_an_answer_and_not_the_server(web: Web) -> None:
    web.publish({"name": "alice"})
    with pytest.raises((urllib.error.URLError, AssertionError, ConnectionError, OSError)):
        assert ask(web, "/metrics")[0] == 200
    web.publish(status())
    assert ask(web, "/metrics")[0] == 200


def test_askers_who_say_nothing_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "ASKERS_MAX", 2)
    web = Web(":0", version="0")
    web.publish(status())
    silent = [socket.create_connection(("127.0.0.1", web.port), timeout=20) for _ in range(3)]
    try:
        assert silent[2].recv(1) == b"", "the third is closed at once"
        for each in silent[:2]:
            each.close()
        deadline_s = time.monotonic() + 20
        answered = 0
        while answered != 200:
            assert time.monotonic() < deadline_s
            with contextlib.suppress(OSError):
                answered = ask(web, "/healthz")[0]
    finally:
        for each in silent:
            each.close()
        web.close()


@pytest.mark.parametrize(
    ("address", "host"),
    [("9100", "127.0.0.1"), (":9100", "127.0.0.1"), ("[::1]:9100", "::1"), ("0.0.0.0:1", "0.0.0.0")],
)
def test_without_a_host_it_is_the_loopback(address: str, host: str) -> None:
    assert parsed(address, "--metrics")[0] == host


@pytest.mark.parametrize("address", ["99999", ":70000", "1.2.3.4:65536", "[::1]:" + "9" * 5000])
def test_a_port_that_is_none_is_told_with_those_that_are(address: str) -> None:
    with pytest.raises(SettingError, match="is no port; valid: 0 to 65535"):
        parsed(address, "--metrics")
    assert parsed("65535", "--metrics")[1] == 65535


@pytest.mark.parametrize("address", ["nonsense", "1.2.3.4:", "1.2.3.4:7_0", "٣", "host:-1"])
def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(SettingError, match="must be HOST:PORT or a port alone"):
        Web(address, version="0")


def test_a_port_that_is_taken_is_one_sentence(web: Web) -> None:
    with pytest.raises(SettingError, match=r"cannot listen there: Address already in use"):
        Web(f"127.0.0.1:{web.port}", version="0")


@pytest.mark.parametrize(("address", "said"), [("0.0.0.0:0", True), ("127.0.0.1:0", False)])
def test_another_address_than_the_loopback_is_said_in_the_log(
    address: str, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gossip.node"):
        Web(address, version="0").close()
    assert ("whoever reaches this address" in caplog.text) == said
