"""MoDeST: in every round another small sample trains, and one of its members averages. No server, no graph.

`view` who is there · `sampling` who is in a sample · `trainer`, `aggregator`, `membership`, `ending` the roles ·
`core` what they share · `protocol` the state machine · `fedavg` the same with a fixed aggregator.
"""
