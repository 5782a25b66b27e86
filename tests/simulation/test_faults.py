"""What faults do to a virtual run, one kind at a time, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import SettingError
from gossip.protocols.settings import RoundsSettings
from scenarios import scenario
from scenarios.sections import Churn, ComputeSettings, Fault, FaultSettings, NetworkSettings
from scenarios.virtual.events.compute import ComputeTimes
from scenarios.virtual.events.faults import FaultPlan, chosen_positions, read_trace
from scenarios.virtual.events.simulation import LINGER_S
from tests.laws import tried
from tests.simulation.watched import WatchedSimulation
from topologies import Topology

LATENCY_S = 0.1
CAP_S = 20.0
FLOOR_S = 3.0


def simulation_of(
    faults: Sequence[Fault] = (),
    *,
    peers: int = 12,
    kind: str = "regular",
    rounds: int = 30,
    gossip_steps: int = 1,
    churn: Churn | None = None,
    detected_s: float = 10.0,
    seed: int = 0,
    **options: Any,
) -> WatchedSimulation:
    """Return a run that has not begun; trainings take a second, messages a tenth."""
    simulation = WatchedSimulation(
        Topology(kind, peers, seed=seed),
        rounds=rounds,
        protocol=RoundsSettings(gossip_steps=gossip_steps, deadline_floor_s=FLOOR_S, deadline_cap_s=CAP_S),
        network=NetworkSettings(latency_ms=1000 * LATENCY_S),
        detected_s=detected_s,
        seed=seed,
        **options,
    )
    FaultPlan(FaultSettings(list=tuple(faults), churn=churn), simulation, detected_s=detected_s)
    simulation.start()
    return simulation


def run(*faults: Fault, **options: Any) -> WatchedSimulation:
    simulation = simulation_of(faults, **options)
    simulation.run_checked()
    return simulation


def heard_all(simulation: WatchedSimulation, peer: int) -> list[bool]:
    """Return for each completed round of a peer whether all neighbours were heard."""
    return [event.heard == event.expected for _, event in simulation.completed[peer]]


def rounds_of_peer(simulation: WatchedSimulation, peer: int) -> list[int]:
    return [event.round for _, event in simulation.completed[peer]]


def gaps_s(simulation: WatchedSimulation, peer: int) -> list[float]:
    """Return the seconds between completed rounds."""
    return np.diff([0.0, *(time_s for time_s, _ in simulation.completed[peer])]).tolist()


ROUND_S = 1 + LATENCY_S
"""A round without faults: training, and a message's way."""


# --- who dies ---


@given(st.integers(0, 10**6), st.sampled_from(["regular", "ring", "full"]), st.floats(0.5, 25))
@tried(0.3)
def test_when_a_third_dies_the_rest_finish_and_no_step_waits_longer_than_its_deadline(seed, kind, at_s):
    simulation = run(Fault(at=at_s, do="crash", peers=0.3), kind=kind, seed=seed)
    living = [peer for peer in simulation.peers if peer.alive]
    assert len(living) == 12 - round(0.3 * 12)
    assert all(peer.finished and peer.round == 30 for peer in living)
    # The system closes a dead process' connections, so that nobody waits for a deadline at all.
    assert simulation.checkers.longest_wait_s < 1 + 3 * LATENCY_S
    assert max(simulation.finished_s.values()) < 30 * ROUND_S + 2


def test_what_a_process_sent_before_it_died_still_arrives_and_nothing_later():
    simulation = run(Fault(at=1.05, do="crash", peers=(0,)), peers=4, kind="ring", rounds=3)
    # All sent their models at 1.0, and the first dies before they arrive.
    assert heard_all(simulation, 1) == [True, False, False]
    assert rounds_of_peer(simulation, 0) == []


@pytest.mark.parametrize("do", ["crash", "leave"])
def test_who_is_gone_for_good_does_not_hold_up_the_end(do):
    simulation = run(Fault(at=5.0, do=do, peers=(3,)), rounds=10)
    assert simulation.now == pytest.approx(max(simulation.finished_s.values()) + LINGER_S, abs=1)
    assert simulation.faults == {"crashed" if do == "crash" else "left": 1}


# --- who comes back ---


def test_a_restarted_peer_goes_on_from_its_checkpoint_and_catches_up():
    simulation = run(
        Fault(at=5.0, do="crash", peers=(3,)), Fault(at=9.0, do="restart", peers=(3,)), rounds=30
    )
    done = rounds_of_peer(simulation, 3)
    before = [event.round for time_s, event in simulation.completed[3] if time_s < 5.0]
    trained_again = before[-1]
    assert before == [1, 2, 3, 4]
    assert simulation.peers[3].adopted == 1
    assert done[-1] == 30
    assert len(done) > 20, "it takes part again, and is not carried along"
    assert trained_again not in done[len(before) :]
    ends = simulation.finished_s
    assert abs(ends[3] - ends[0]) < 3 * ROUND_S


def test_who_was_away_believes_its_only_neighbour_as_far_as_there_was_time_for():
    simulation = run(
        Fault(at=5.0, do="crash", peers=(4, 5)),
        Fault(at=25.0, do="restart", peers=(4, 5)),
        kind="star",
        peers=6,
        rounds=60,
    )
    for peer in (4, 5):
        assert simulation.peers[peer].adopted >= 1
    assert max(simulation.finished_s.values()) < 60 * ROUND_S + 5


def test_a_peer_that_is_back_at_once_repeats_the_round_and_adopts_nothing():
    simulation = run(
        Fault(at=5.0, do="crash", peers=(3,)), Fault(at=5.05, do="restart", peers=(3,)), rounds=10
    )
    assert rounds_of_peer(simulation, 3) == list(range(1, 11))
    assert simulation.adopted() == 0
    assert all(peer.finished for peer in simulation.peers)


def test_a_run_waits_for_those_who_are_to_come_back_also_when_everybody_died():
    simulation = run(Fault(at=5.0, do="crash", peers=1.0), Fault(at=500.0, do="restart"), rounds=10)
    assert all(peer.finished and peer.round == 10 for peer in simulation.peers)
    assert min(simulation.finished_s.values()) > 500


def test_a_peer_restarted_long_after_the_others_have_finished_gets_their_model():
    simulation = run(
        Fault(at=5.0, do="crash", peers=(3,)), Fault(at=500.0, do="restart", peers=(3,)), rounds=10
    )
    # Connecting; an update and its answer, that it is far behind; the last round with its answers.
    assert simulation.finished_s[3] < 500 + 4 * LATENCY_S + 2 * (1 + 2 * LATENCY_S) + 0.1
    assert simulation.peers[3].adopted == 1


def test_a_late_peer_joins_at_its_time_and_ends_with_the_others():
    simulation = run(Fault(at=10.0, do="join", peers=(3, 4)), rounds=30)
    assert simulation.faults == {"joined": 2}
    for peer in (3, 4):
        assert min(time_s for time_s, _ in simulation.completed[peer]) > 10.0
        assert simulation.peers[peer].adopted == 1
        assert rounds_of_peer(simulation, peer)[-1] == 30
    assert max(simulation.finished_s.values()) < 30 * ROUND_S + 5
    assert simulation.checkers.longest_wait_s <= CAP_S


def test_restart_without_names_means_the_dead_and_not_those_who_join_later():
    simulation = run(
        Fault(at=3.0, do="crash", peers=(1,)),
        Fault(at=6.0, do="restart"),
        Fault(at=12.0, do="join", peers=(2,)),
        rounds=20,
    )
    assert simulation.faults == {"crashed": 1, "restarted": 1, "joined": 1}
    assert min(time_s for time_s, _ in simulation.completed[2]) > 12.0


def test_joining_twice_counts_once():
    simulation = run(*(Fault(at=at_s, do="join", peers=(2,)) for at_s in (4.0, 8.0)), rounds=10)
    assert simulation.faults == {"joined": 1}
    assert all(peer.finished for peer in simulation.peers)


# --- who is stopped ---


def test_a_stopped_peer_costs_its_neighbours_one_deadline_and_not_one_in_every_round():
    pause_s = 60.0
    simulation = run(
        Fault(at=11.5, do="pause", peers=(0,)),
        Fault(at=11.5 + pause_s, do="resume", peers=(0,)),
        kind="ring",
        rounds=60,
        detected_s=1000.0,
    )
    for neighbour in (1, 11):
        late = [gap for gap in gaps_s(simulation, neighbour) if gap > ROUND_S + 0.5]
        # One when it was stopped; the other when it was heard again, if it was late then.
        assert 1 <= len(late) <= 2
        assert late[0] == pytest.approx(ROUND_S + FLOOR_S, abs=1)
    assert all(peer.finished for peer in simulation.peers)
    assert simulation.checkers.longest_wait_s <= CAP_S


def test_missed_heartbeats_end_the_wait_before_the_deadline():
    simulation = run(Fault(at=0.5, do="pause", peers=(0,)), kind="ring", rounds=5, detected_s=2.0, peers=6)
    # Nothing is known yet of anybody's delays, so that the deadline is the cap; the heartbeats are quicker.
    assert simulation.completed[1][0][0] == pytest.approx(2.5, abs=0.01)
    assert CAP_S > 10
    assert [peer.finished for peer in simulation.peers] == [False] + [True] * 5


def test_a_stopped_process_does_not_compute():
    simulation = run(
        Fault(at=0.25, do="pause", peers=(0,)),
        Fault(at=0.5, do="resume", peers=(0,)),
        Fault(at=0.75, do="pause", peers=(0,)),
        Fault(at=5.75, do="resume", peers=(0,)),
        peers=2,
        kind="full",
        rounds=1,
        detected_s=100.0,
    )
    # One second of work, held up for 5.25.
    assert simulation.completed[1][0][0] == pytest.approx(6.25 + LATENCY_S)


def test_what_came_while_a_process_was_stopped_is_handled_in_its_order_when_it_goes_on():
    # Models arrive at 1.1, 2.2, …; the process goes on at the very moment of one of them.
    simulation = run(
        Fault(at=1.05, do="pause", peers=(0,)),
        Fault(at=1.0 + LATENCY_S, do="resume", peers=(0,)),
        peers=3,
        kind="full",
        rounds=4,
        gossip_steps=3,
    )
    assert all(all(heard_all(simulation, peer)) for peer in range(3))


def test_a_stopped_process_that_is_killed_forgets_what_waited_for_it():
    simulation = run(
        Fault(at=2.05, do="pause", peers=(0,)),
        Fault(at=4.0, do="crash", peers=(0,)),
        Fault(at=6.0, do="restart", peers=(0,)),
        rounds=20,
    )
    assert all(peer.finished and not peer.paused and not peer.resume_queue for peer in simulation.peers)


# --- links ---


def test_both_halves_of_a_cut_network_go_on_and_meet_again():
    half = tuple(range(6))
    simulation = simulation_of(
        [Fault(at=5.0, do="partition", peers=half), Fault(at=40.0, do="heal")], kind="ring", rounds=80
    )
    simulation.run_checked(until_s=40.0)
    apart = np.array([done[-1][1].model.value for done in simulation.completed])
    rounds = [done[-1][1].round for done in simulation.completed]
    assert min(rounds) > 20, "both halves go on"
    assert abs(apart[:6].mean() - apart[6:].mean()) > 3, "nothing passes"
    simulation.run_checked()
    assert all(peer.finished and peer.round == 80 for peer in simulation.peers)
    assert simulation.values() == pytest.approx(np.full(12, apart.mean()), abs=1.5)
    assert all(all(heard_all(simulation, peer)[-20:]) for peer in range(12)), "they hear each other again"


def test_nobody_knows_of_a_cut_before_heartbeats_are_missed():
    simulation = simulation_of([Fault(at=5.0, do="partition", peers=(0,))], kind="ring", detected_s=7.0)
    one, other = simulation.peers[0], simulation.peers[1]
    simulation.run_checked(until_s=11.9)
    assert one.is_up(other.peer)
    assert other.is_up(one.peer)
    simulation.run_checked(until_s=12.1)
    assert not one.is_up(other.peer)
    assert not other.is_up(one.peer)


def test_who_restarts_behind_a_cut_is_reached_once_it_is_healed_and_not_before():
    simulation = simulation_of(
        [
            Fault(at=3.0, do="partition", peers=(0,)),
            Fault(at=4.0, do="crash", peers=(0,)),
            Fault(at=6.0, do="restart", peers=(0,)),
            Fault(at=20.0, do="heal"),
        ],
        kind="ring",
        rounds=40,
        detected_s=2.0,
    )
    simulation.run_checked(until_s=20.5)
    assert simulation.peers[0].alive
    assert not simulation.peers[0].is_up("p01")
    assert not simulation.peers[1].is_up("p00")
    simulation.run_checked()
    assert all(peer.finished for peer in simulation.peers)
    assert heard_all(simulation, 0)[-5:] == [True] * 5


def test_a_cut_that_heals_before_it_is_noticed_ends_the_old_connection_all_the_same():
    simulation = run(
        Fault(at=5.0, do="partition", peers=(0,)), Fault(at=6.0, do="heal"), kind="ring", rounds=20
    )
    ups = [simulation.peers[0].links[name] for name in simulation.peers[0].contacts]
    assert min(ups) > 0
    assert all(peer.finished for peer in simulation.peers)
    assert max(gap for peer in range(12) for gap in gaps_s(simulation, peer)) < ROUND_S + 2.5


# --- churn ---


@given(st.integers(0, 100), st.floats(0.5, 2))
@tried(0.15)
def test_under_churn_all_finish_in_the_end(seed, shape):
    churn = Churn(online_s=20.0, offline_s=5.0, shape=shape)
    simulation = run(churn=churn, seed=seed, rounds=25)
    assert all(peer.finished and peer.alive for peer in simulation.peers)


def test_sessions_have_the_mean_lengths_that_were_asked_for():
    churn = Churn(online_s=30.0, offline_s=10.0, shape=0.7)
    simulation = simulation_of(churn=churn, peers=40, rounds=10**6, training_s=lambda peer, round: 100.0)
    simulation.run(until_s=3000.0)
    crashed, back = simulation.faults["crashed"], simulation.faults["restarted"]
    # 40 peers in 3000 s, 40 s for both: 3000 sessions expected.
    assert crashed == pytest.approx(3000, rel=0.1)
    assert abs(crashed - back) <= 40


def test_who_left_for_good_is_not_brought_back_by_churn():
    churn = Churn(online_s=2.0, offline_s=0.5)
    simulation = run(Fault(at=4.0, do="leave", peers=(1, 2)), churn=churn, rounds=15)
    assert not any(simulation.peers[index].alive for index in (1, 2))
    assert all(peer.finished for peer in simulation.peers if peer.alive)


def test_a_trace_decides_who_is_there_when(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("# peer,from,to\n1,0,4.5\n1,10,200\n\n2,6,200\n")
    simulation = run(churn=Churn(trace_path=str(trace)), rounds=20)
    at = [(note["time"], note["peer"], note["event"]) for note in simulation.notes]
    assert [entry for entry in at if entry[2] != "adopted"] == [
        (4.5, "p01", "crashed"),
        (6.0, "p02", "joined"),
        (10.0, "p01", "restarted"),
    ]
    assert all(peer.finished for peer in simulation.peers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,1\n", ":1: '0,1': must be 'peer,online_from_s,online_to_s' with peer 0 to 3"),
        ("# x\n\n4,0,1\n", ":3: '4,0,1': must be"),
        ("0,5,5\n", ":1: '0,5,5': must be"),
        ("0,-1,5\n", ":1: '0,-1,5': must be"),
        ("0,1,inf\n", ":1: '0,1,inf': must be"),
        ("zero,1,2\n", ":1: 'zero,1,2': must be"),
        ("0,1,5\n1,0,9\n0,4,8\n", ":3: '0,4,8': overlaps another session of peer 0"),
        ("\xff", ": not UTF-8 text (byte 0)"),
    ],
)
def test_a_wrong_trace_is_one_sentence_with_its_line(tmp_path, text, said):
    path = tmp_path / "trace.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError) as error:
        read_trace(path, 4)
    assert str(error.value).startswith(f"{path}{said}")
    assert "\n" not in str(error.value)


def test_a_missing_trace_is_one_sentence():
    with pytest.raises(SettingError, match=r"^/nowhere\.csv: cannot be read: No such file or directory$"):
        read_trace(Path("/nowhere.csv"), 4)


# --- shares and speeds ---


@given(st.floats(0.01, 1), st.integers(1, 200), st.integers(0, 2**32), st.integers(0, 20))
def test_a_share_names_so_many_different_peers_the_same_for_every_engine(share, peers, seed, number):
    fault = Fault(at=1.0, do="crash", peers=share)
    chosen = chosen_positions(fault, number, peers, seed)
    assert chosen == sorted(set(chosen)) == chosen_positions(fault, number, peers, seed)
    assert len(chosen) == max(1, round(share * peers))
    assert 0 <= chosen[0] <= chosen[-1] < peers


def test_speeds_have_the_spread_and_stragglers_the_slowdown_that_were_asked_for():
    settings = ComputeSettings(seconds_per_sample=0.01, spread=0.5, stragglers=0.1, slowdown=7.0)
    samples = [100] * 1000
    plain = ComputeTimes(ComputeSettings(seconds_per_sample=0.01), samples=samples, sam=False, seed=1)
    sam = ComputeTimes(ComputeSettings(seconds_per_sample=0.01), samples=samples, sam=True, seed=1)
    assert {plain(peer, 0) for peer in range(1000)} == {1.0}
    assert {sam(peer, 0) for peer in range(1000)} == {2.0}, "two passes"
    times = ComputeTimes(settings, samples=samples, sam=False, seed=1)
    assert len(times.stragglers) == 100
    slowed = [7.0 if peer in times.stragglers else 1.0 for peer in range(1000)]
    logs = np.log([times(peer, 0) / slowed[peer] for peer in range(1000)])
    assert logs.std() == pytest.approx(0.5, rel=0.1)
    assert logs.mean() == pytest.approx(0.0, abs=0.05)


def test_a_trace_of_speeds_says_how_long_each_peer_computes_for_its_own_samples():
    times = ComputeTimes(
        ComputeSettings(), samples=[10, 10, 40], sam=True, seed=1, seconds_per_sample=(0.1, 0.0, 0.5)
    )
    assert [times(peer, 0) for peer in range(3)] == [pytest.approx(2.0), 0.0, pytest.approx(40.0)]


# --- what is said of wrong settings ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[network]\nlatency_ms = [5, 1]", "5: [network] latency_ms = [5, 1]: must be 0 <= from <= to"),
        (
            "[network]\nlatency_ms = 'fast'",
            "5: [network] latency_ms = 'fast': must be a number, or two: [from",
        ),
        ("[network]\nlatency_ms = inf", "5: [network] latency_ms = inf: must be a number"),
        ("[network]\nloss = 1.0", "5: [network] loss = 1.0: must be less than 1"),
        ("[network]\nbandwidth_mbps = 0", "5: [network] bandwidth_mbps = 0: must be greater than 0"),
        ("[network]\njitter_ms = -1", "5: [network] jitter_ms = -1: must be greater than or equal to 0"),
        ("[network]\nbandwith = 1", "5: [network] unknown key 'bandwith'; did you mean 'bandwidth_mbps'?"),
        ("[compute]\nspread = -1", "5: [compute] spread = -1: must be greater than or equal to 0"),
        ("[compute]\nstragglers = 2", "5: [compute] stragglers = 2: must be less than or equal to 1"),
        ("[compute]\nslowdown = 0.5", "5: [compute] slowdown = 0.5: must be greater than or equal to 1"),
        ("[compute]\nseconds_per_sample = nan", "5: [compute] seconds_per_sample = nan: must be a finite"),
        (
            "[[faults.list]]\nat = 1\ndo = 'crash'",
            "4: [faults] list.0: do = 'crash' needs peers: positions, or a share between 0 and 1",
        ),
        (
            "[[faults.list]]\nat = 1\ndo = 'heal'\n[[faults.list]]\nat = 2\ndo = 'explode'",
            "9: [faults] list.1.do = 'explode': must be 'crash', 'restart',",
        ),
        (
            "[[faults.list]]\nat = 1\ndo = 'crash'\npeers = 3",
            "7: [faults] list.0.peers = 3: must be a share between 0 and 1, or a list of positions",
        ),
        ("[faults]\nlist = [{at = 1, do = 'crash', peers = []}]", "5: [faults] list.0.peers = []: must be a"),
        ("[faults]\nlist = [{do = 'heal'}]", "5: [faults] 'list.0.at' is missing"),
        ("[faults]\nlist = [{at = -1, do = 'heal'}]", "5: [faults] list.0.at = -1: must be greater than or"),
        (
            "[[faults.list]]\nat = 1\ndo = 'heal'\n[[faults.list]]\nat = 1\ndo = 'crash'\npeers = [1, 4]",
            "10: [faults] list.1.peers: there is no peer 4; positions are 0 to 3",
        ),
        ("[faults]\nlist = 3", "5: [faults] list = 3: must be a list"),
        ("[faults]\nchurn = 3", "5: [faults] churn = 3: must be a table"),
        (
            "[faults.churn]\nonline_s = 3",
            "4: [faults] churn: churn needs online_s and offline_s, or trace_path",
        ),
        (
            "[faults.churn]\nonline_s = 3\noffline_s = 0",
            "6: [faults] churn.offline_s = 0: must be greater than 0",
        ),
        (
            "[faults.churn]\nonline_s = 3\noffline_s = 2\ntrace_path = 'x'",
            "4: [faults] churn: churn takes online_s and offline_s, or trace_path, not both",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence_with_file_and_line(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(f"[scenario]\npeers = 4\n\n{text}\n")
    with pytest.raises(SettingError) as error:
        scenario.load(path)
    assert str(error.value).startswith(f"{path}:{said}")
    assert "\n" not in str(error.value)


def test_files_named_in_a_scenario_are_sought_beside_it(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[network]\ncities_path = 'c.csv'\n[faults.churn]\ntrace_path = 't.csv'\n")
    settings = scenario.load(path)
    assert settings.network.cities_path == str(tmp_path / "c.csv")
    assert settings.faults.churn is not None
    assert settings.faults.churn.trace_path == str(tmp_path / "t.csv")
