"""Synchronous neighbourhood rounds: local update, then Q gossip steps with the neighbours.

`protocol` the state machine · `neighbourhood` who is waited for · `sender` what is known of one of them · `inbox`
which models are kept · `exchange` what a step sends, and whom it waits for · `waiting` that wait · `patience` how long
it may be, and for whom · `catching_up` who may move a peer, and how far · `moves` when that is asked · `order` what is
sent and mixed · `parts` which part of it · `final` steps after the last round's own · `ending` the last round ·
`stopping` agreeing upon an earlier one.

Where a peer stands is its phase and its tag (t, q): t rounds are done, and q gossip steps of the present one. There are
T rounds of Q steps each, fewer where peers agree to stop early (`stopping`); "far ahead" is `catch_up_rounds` or more.

========== ================================== ================================================== ==================
phase      upon                               action                                             next
========== ================================== ================================================== ==================
ready      start, or a resume after t rounds  train x^t                                          training (t, 0)
ready      the same, t = T                    tell all contacts "finished"                       finished
training   trained                            send z^(0) to the neighbours of round t            gossiping (t, 0)
training   trained, most are far ahead        merge their newest models                          that place, below
training   a model of (t, 0) or later         keep it                                            training (t, 0)
gossiping  the last awaited model of (t, q)   merge what came                                    step done
gossiping  the deadline of the step           the same; who did not answer is a suspect          step done
gossiping  an awaited neighbour goes          the same, if it was the last one awaited           step done
gossiping  a model of a later step            keep it; its sender is awaited no more             as it is, or step done
gossiping  most are far ahead, at (t', q')    merge their newest models                          that place, below
step done  q + 1 < Q                          send z^(q+1)                                       gossiping (t, q + 1)
step done  q + 1 = Q, t + 1 < T               complete the round; train x^(t+1)                  training (t + 1, 0)
step done  q + 1 = Q, t + 1 = T               complete the round; tell all contacts "finished"   finished
that place t' < T - 1                         send what was merged                               gossiping (t', q')
that place t' = T - 1, the last round         train: nobody is finished by what others say       training (t', 0)
finished   a model of an earlier round        answer its sender with the final model             finished
any        the own score is told              tell contacts, once, if it makes one want to stop  as it is
any        contacts say who wants to stop     tell the others; T may become less, never t + 1    as it is
any        a neighbour comes                  send it the own model of (t, q), or "finished"     as it is
any        a model of no neighbour, of no     reject it                                          as it is
           such step, twice, or stale
========== ================================== ================================================== ==================

With `parts` above 1, (t, q) says which part of z^(q) is sent and merged.

With ``order = "combine-then-adapt"`` x^t is sent before it is trained, and what training changed is added to z^(Q).

What the papers leave open, and what is done here:

* A neighbour's model that does not come: its weight goes to the own model. Rows of W still sum to one, and
  where both sides miss each other columns do too, so the mean of all models is kept. Renormalising the row
  would not keep it.
* The newest model of a neighbour far ahead, and one that comes after its step has ended, stand in for the one that is
  missing (`inbox`). They do not count as heard.
* Neighbours are late, silent, or come and go, on purpose or not: how long a step waits, and for whom, see `patience`.
* A peer far behind goes where most of its live neighbours have been at least (`catching_up`).
* Nobody is finished by what others say, unless enough have signed that they want to stop (`stopping`). The last round
  begins with an own local update, and those who have finished answer slower neighbours with their final model, which
  stands in for theirs.
"""

from gossip.protocols.rounds.phase import Phase
from gossip.protocols.rounds.protocol import Rounds

__all__ = ["Phase", "Rounds"]
