"""Who this peer is: an Ed25519 key, the certificate that shows it, and the address where others find it.

All three stand in one file of the home, so that they can never disagree. Nothing here needs torch or trio.
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gossip.errors import SettingError
from gossip.net.address import check_name, format_address, parse_address
from gossip.net.certificates import certificate_text, make_certificate, read_certificate

IDENTITY_FILE = "identity.pem"
_FILE_BYTES_MAX = 16384
_ADVERTISE = "advertise: "


@dataclass(frozen=True, slots=True)
class Identity:
    """One peer's identity; the private key stays in `path` and is read from there by the TLS library."""

    name: str
    advertise: str
    """host:port, as others dial it."""
    certificate_der: bytes
    path: Path

    @classmethod
    def create(cls, home: Path, *, name: str, advertise: str) -> Identity:
        """Make an identity in `home`, or return the one that is there if it says the same.

        Raises:
            SettingError: a bad name or address, a home that holds another identity or cannot be written.
        """
        try:
            check_name(name)
            address = format_address(*parse_address(advertise))
        except ValueError as error:
            raise SettingError(f"cannot make an identity: {error}") from None
        path = home / IDENTITY_FILE
        if path.exists():
            existing = cls.load(home)
            if (existing.name, existing.advertise) != (name, address):
                raise SettingError(
                    f"{path}: holds the identity '{existing.name}' at {existing.advertise} already, not "
                    f"'{name}' at {address}; choose another --home, or move that file away"
                )
            return existing
        key = Ed25519PrivateKey.generate()
        certificate = make_certificate(key, name)
        text = (
            f"{_ADVERTISE}{address}\n"
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
            + x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode("ascii")
        )
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_private(path, text.encode("ascii"))
        except OSError as error:
            raise SettingError(f"{path}: cannot be written: {error.strerror}") from error
        return cls(name=name, advertise=address, certificate_der=certificate, path=path)

    @classmethod
    def load(cls, home: Path) -> Identity:
        """Read the identity of `home`.

        Raises:
            SettingError: it is missing, damaged, or readable by others than its owner.
        """
        path = home / IDENTITY_FILE
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read(_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise SettingError(
                f"{path}: there is no identity yet; make one with "
                f"`gossip-node init --home {shlex.quote(str(home))} --name NAME --advertise HOST:PORT`"
            ) from None
        except OSError as error:
            raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise SettingError(
                f"{path}: the private key has mode {mode:04o} and others may read it; "
                f"run `chmod 600 {shlex.quote(str(path))}`, and if somebody did, make a new identity"
            )
        try:
            return _parse(data, path)
        except ValueError as error:
            raise SettingError(
                f"{path}: the identity is damaged ({error}); restore it or make a new one"
            ) from None

    def peers_line(self) -> str:
        """Return this peer's line of the peers file, without a newline."""
        return f"{self.name}  {self.advertise}  {certificate_text(self.certificate_der)}"


def _parse(data: bytes, path: Path) -> Identity:
    if len(data) > _FILE_BYTES_MAX:
        raise ValueError("it is too long")
    try:
        first = data.split(b"\n", 1)[0].decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not first.startswith(_ADVERTISE):
        raise ValueError("its first line is not 'advertise: HOST:PORT'")
    advertise = format_address(*parse_address(first.removeprefix(_ADVERTISE).strip()))
    try:
        key = load_pem_private_key(data, password=None)
        certificate = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
    except Exception:  # the parser has many exception types for damaged bytes
        raise ValueError("its key or certificate cannot be parsed") from None
    facts = read_certificate(certificate)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("its key is not Ed25519")
    if key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != facts.public_key:
        raise ValueError("its certificate belongs to another key")
    return Identity(name=check_name(facts.name), advertise=advertise, certificate_der=certificate, path=path)


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all (mkstemp makes it 0600)."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
