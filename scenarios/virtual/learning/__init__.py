"""All peers' learning: deferred, and computed in stacks."""
