"""What peers sign for others to pass on: with the key of their identity, checked by the certificates of the peers file.

A connection proves who speaks; a signature proves who has said what somebody else repeats.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gossip.errors import ProtocolMisuse
from gossip.net.certificates import read_certificate
from gossip.net.identity import Identity

KEYS_KEPT = 2048
"""Public keys that are kept once they are read; a certificate's own signature is checked each time it is."""


def sign(identity: Identity | None, statement: bytes) -> bytes:
    """Return the 64 bytes of Ed25519 by the identity's key, which is read from its file: it is seldom wanted.

    Raises:
        ProtocolMisuse: there is no identity (`--insecure`).
    """
    if identity is None:
        raise ProtocolMisuse("a peer without an identity cannot sign anything")
    key = load_pem_private_key(identity.path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.sign(statement)


def verify(certificate: bytes | None, statement: bytes, signature: bytes) -> bool:
    """Return whether the certificate's key (DER) has signed the statement."""
    if certificate is None:
        return False
    try:
        _key_of(certificate).verify(signature, statement)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=KEYS_KEPT)
def _key_of(certificate: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(read_certificate(certificate).public_key)
