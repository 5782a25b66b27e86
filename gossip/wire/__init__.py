"""Bytes: messages, documents, tensors, codecs and frames. Knows no sockets and no event loop.

Modules are imported by name, so that the registry of codecs costs no torch.
"""
