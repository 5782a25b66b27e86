"""The process engine: a scenario as real nodes over TLS on this machine."""
