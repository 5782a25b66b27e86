"""Laws of the ledger: ε by another's formula and by known values, and how it grows."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import CheckpointError, SettingError
from gossip.learning.settings import LocalSettings
from gossip.node.ledger import open_budget
from gossip.privacy.accountant import ORDERS, epsilon, rdp_of_step
from gossip.privacy.budget import SPENT, UNWRITTEN, Budget
from gossip.privacy.ledger import Ledger, Spent, read_ledger
from gossip.privacy.settings import PrivacySettings
from tests.laws import tried

RATES = st.floats(1e-4, 1.0)
NOISES = st.floats(0.3, 20.0)
STEPS = st.integers(1, 5000)
DELTA = 1e-5

KNOWN = [
    ((1.0, 1.0, 1, DELTA), 4.7527),
    ((1.0, 4.0, 1, DELTA), 1.0126),
    ((0.01, 1.0, 1000, DELTA), 2.1078),
    ((0.01, 1.1, 10_000, DELTA), 5.6543),
    ((0.02, 2.0, 3000, DELTA), 2.6296),
]


def budget_of(*, epsilon_max: float = 5.0, ledger: Ledger | None = None, write=None) -> Budget:
    settings = PrivacySettings(kind="dp-sgd", noise=1.0, delta=DELTA, epsilon_max=epsilon_max)
    return Budget(settings, samples=160, batch_size=16, steps=10, ledger=ledger, write=write)


def opacus_rdp():
    """Its module of formulas alone: the whole package takes four seconds to import."""
    found = importlib.util.find_spec("opacus")
    if found is None or found.origin is None:
        pytest.skip("opacus is not installed: pip install -e '.[test]'")
    path = Path(found.origin).parent / "accountants" / "analysis" / "rdp.py"
    spec = importlib.util.spec_from_file_location("opacus_rdp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("steps", "wanted"), KNOWN)
def test_known_values(steps, wanted):
    assert epsilon(*steps) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize("noise", [1e-100, 1e-160, 1e-200, 5e-324])
@pytest.mark.parametrize("rate", [1e-3, 0.5, 1.0])
def test_noise_too_small_to_reckon_with_is_none_and_never_said_to_cost_nothing(rate, noise):
    assert epsilon(rate, noise, 1, 1e-5) > 1e6


def test_it_is_what_opacus_says():
    rdp = opacus_rdp()
    orders = ORDERS.tolist()
    for rate, noise, steps in [(1.0, 1.0, 1), (0.01, 1.1, 10_000), (0.2, 0.6, 50), (0.0003, 2.5, 100_000)]:
        theirs = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=orders)
        assert rdp_of_step(rate, noise) * steps == pytest.approx(theirs, rel=1e-6, abs=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would like more orders
            wanted, _ = rdp.get_privacy_spent(orders=orders, rdp=theirs, delta=DELTA)
        assert epsilon(rate, noise, steps, DELTA) == pytest.approx(wanted, abs=1e-6)


@tried(1)
@given(rate=RATES, other_rate=RATES, noise=NOISES, other_noise=NOISES, steps=STEPS, more=STEPS)
def test_more_steps_and_more_of_the_samples_cost_more_and_more_noise_costs_less(
    rate, other_rate, noise, other_noise, steps, more
):
    low, high = sorted((rate, other_rate))
    quiet, loud = sorted((noise, other_noise))
    slack = 1e-9
    assert epsilon(rate, noise, steps, DELTA) <= epsilon(rate, noise, steps + more, DELTA) + slack
    assert epsilon(low, noise, steps, DELTA) <= epsilon(high, noise, steps, DELTA) + slack
    assert epsilon(rate, loud, steps, DELTA) <= epsilon(rate, quiet, steps, DELTA) + slack


@tried(1)
@given(st.lists(st.builds(Spent, RATES, NOISES, STEPS), max_size=5))
def test_a_ledger_is_read_as_it_was_written_and_steps_of_all_kinds_add_up(tmp_path_factory, entries):
    ledger = Ledger(entries)
    path = tmp_path_factory.mktemp("ledger") / "privacy.json"
    path.write_bytes(ledger.encode(DELTA))
    found = read_ledger(path)
    assert found is not None
    assert found.entries == ledger.entries
    assert found.epsilon(DELTA) == pytest.approx(ledger.epsilon(DELTA))
    assert all(ledger.epsilon(DELTA) >= Ledger([entry]).epsilon(DELTA) for entry in entries)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "gossip-privacy-1"}',
        b'{"format": "gossip-privacy-1", "spent": [{"rate": 2, "noise": 1, "steps": 1}]}',
        b'{"format": "gossip-privacy-1", "spent": [{"rate": 0.1, "noise": 1, "steps": -5}]}',
        b'{"format": "gossip-privacy-1", "spent": [{"rate": 0.1, "noise": NaN, "steps": 5}]}',
        b" " * (1 << 21),
    ],
)
def test_a_ledger_that_says_nothing_sensible_is_refused_and_never_taken_for_an_empty_one(tmp_path, content):
    path = tmp_path / "privacy.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="privacy ledger"):
        read_ledger(path)


def test_no_update_begins_that_would_spend_more_than_the_budget():
    budget = budget_of(epsilon_max=5.0)
    planned, allowed = budget.planned(1000)
    done = 0
    while budget.spend():
        done += 1
        assert budget.epsilon <= 5.0
    assert (done, budget.refused) == (allowed, SPENT)
    assert planned > 5.0 > budget.epsilon > 4.5
    assert budget.epsilon == pytest.approx(epsilon(0.1, 1.0, 10 * done, DELTA))
    assert f"after {allowed} of them" in budget_of(epsilon_max=5.0).told(1000)


def test_an_update_is_on_the_disk_before_it_begins_and_is_not_done_where_the_disk_does_not_take_it():
    written: list[dict] = []
    full = False

    def write(data: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        written.append(json.loads(data))

    budget = budget_of(write=write)
    budget.begin()
    assert written[-1]["steps"] == 0
    assert budget.spend()
    assert written[-1]["steps"] == budget.steps == 10
    full = True
    assert not budget.spend()
    assert (budget.refused, budget.steps, len(written)) == (UNWRITTEN, 10, 2)
    full = False
    assert budget.spend()
    assert (budget.refused, budget.steps) == (None, 20)


def test_what_was_spent_before_counts():
    spent = Ledger([Spent(0.1, 1.0, 200)])
    before, after = budget_of(), budget_of(ledger=spent)
    assert after.epsilon > before.epsilon == 0
    assert after.planned(1000)[1] < before.planned(1000)[1]
    assert "spent before" in after.told(10)


def test_where_the_ledger_cannot_be_written_nothing_begins(tmp_path):
    settings = PrivacySettings(kind="dp-sgd", epsilon_max=8.0)
    task = SimpleNamespace(privacy_settings=settings, local_settings=LocalSettings())
    with pytest.raises(
        SettingError, match=r"the privacy ledger privacy.json cannot be written, and nothing is"
    ):
        open_budget(tmp_path / "gone", task, 100, None, touch=True)
    assert open_budget(tmp_path / "gone", task, 100, None, touch=False) is not None
    assert open_budget(tmp_path, task, 100, None, touch=True).steps == 0
    assert read_ledger(tmp_path / "privacy.json").steps == 0
