"""What goes on the wire for a model: one codec a file, each with a specification that never changes.

Modules are imported by name, so that the registry of codecs (`settings`) costs no torch.
"""
