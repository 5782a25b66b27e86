"""Self-signed Ed25519 certificates: the form in which a peer's public key is written and shown.

A certificate says nothing but "this key is called that"; trust comes from standing in the peers file.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

CERTIFICATE_BYTES_MAX = 2048
"""Ours are about 250 bytes; anything much larger is not an identity."""

# A key is trusted for as long as it stands in the file, so the validity is all of time
# (RFC 5280 §4.1.2.5 names the latter date for "no well-defined expiration").
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says."""

    name: str
    public_key: bytes
    """32 bytes of Ed25519."""


def make_certificate(key: Ed25519PrivateKey, name: str) -> bytes:
    """Return the DER certificate of `key` under `name`; the same key and name give the same bytes."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    # A serial number must be positive and fit 20 bytes; derived, so that the certificate is reproducible.
    serial = int.from_bytes(hashlib.sha256(public).digest()[:8], "big") >> 1 | 1
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER)


def read_certificate(der: bytes) -> CertificateFacts:
    """Return name and key of a self-signed Ed25519 certificate.

    Raises:
        ValueError: a clause that says what is wrong with it.
    """
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise ValueError(f"{len(der)} bytes are too many for a certificate (at most {CERTIFICATE_BYTES_MAX})")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception as error:  # the parser has many exception types for damaged bytes
        raise ValueError("the certificate cannot be parsed") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the certificate's key is not Ed25519")
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise ValueError("the certificate has no common name")
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        raise ValueError("the certificate is not signed with its own key") from None
    return CertificateFacts(names[0].value, key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def certificate_text(der: bytes) -> str:
    """Return the certificate as a peers file writes it."""
    return base64.b64encode(der).decode("ascii")


def parse_certificate_text(text: str) -> tuple[bytes, CertificateFacts]:
    """Return the DER bytes of base64 `text` and what they say, or raise `ValueError` with a clause."""
    try:
        der = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the certificate is not base64") from None
    return der, read_certificate(der)
