"""Sockets: identity, peers file, TLS, connections and the table of neighbours.

Modules are imported by name, so that reading an identity or a peers file costs neither torch nor trio.
"""
