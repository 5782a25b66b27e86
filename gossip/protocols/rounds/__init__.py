"""Synchronous neighbourhood rounds: local update, then Q gossip steps with the neighbours.

`protocol` the state machine · `neighbourhood` who is waited for · `sender` what is known of one of them · `inbox`
which models are kept · `waiting` the wait of a step · `patience` how long it may be, and for whom · `catching_up` who
may move a peer, and how far.
"""

from gossip.protocols.rounds.protocol import Phase, Rounds

__all__ = ["Phase", "Rounds"]
