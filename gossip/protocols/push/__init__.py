"""Asynchronous gossip learning: every peer trains and pushes in its own time, and nobody waits for anybody."""
