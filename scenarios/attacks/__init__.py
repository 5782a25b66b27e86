"""Attackers, for scenarios only: what they send, what they train on, and what they know. Nodes contain none of this."""
