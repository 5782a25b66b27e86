"""Virtual time: events, the network, faults, and the peers that live in it."""
