"""Synchronous neighbourhood rounds: local update, then Q gossip steps with the neighbours.

`protocol` the state machine · `neighbourhood` who is waited for · `sender` what is known of one of them ·
`catching_up` who may move a peer, and how far · `patience` how long a step waits, and for whom.
"""

from gossip.protocols.rounds.protocol import Phase, Rounds

__all__ = ["Phase", "Rounds"]
