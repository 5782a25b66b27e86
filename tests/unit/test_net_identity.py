"""Identities and peers files: what is accepted, and the one sentence for what is not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gossip.errors import SettingError
from gossip.net import peers_file
from gossip.net.address import format_address, parse_address
from gossip.net.certificates import certificate_text, make_certificate, read_certificate
from gossip.net.identity import IDENTITY_FILE, Identity


def lines_of(tmp_path: Path, *names: str) -> list[str]:
    return [
        Identity.create(tmp_path / name, name=name, advertise=f"127.0.0.1:{7700 + index}").peers_line()
        for index, name in enumerate(names)
    ]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "peers.txt"
    path.write_bytes(text.encode())
    return path


def complaint(path: Path, *, insecure: bool = False) -> str:
    with pytest.raises(SettingError) as caught:
        peers_file.load(path, insecure=insecure)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_an_identity_is_made_once_and_found_again(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "a", name="alice", advertise="Example.org:7700")
    assert made == Identity.create(tmp_path / "a", name="alice", advertise="example.org:7700")
    assert made == Identity.load(tmp_path / "a")
    assert made.advertise == "example.org:7700"
    assert (tmp_path / "a" / IDENTITY_FILE).stat().st_mode & 0o777 == 0o600
    assert len(made.certificate_der) < 260
    with pytest.raises(SettingError, match="holds the identity 'alice'"):
        Identity.create(tmp_path / "a", name="bob", advertise="example.org:7700")
    with pytest.raises(SettingError, match="holds the identity 'alice'"):
        Identity.create(tmp_path / "a", name="alice", advertise="example.org:7701")


def test_the_same_key_and_name_give_the_same_certificate() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert make_certificate(key, "alice") == make_certificate(key, "alice")
    assert read_certificate(make_certificate(key, "alice")).name == "alice"


@pytest.mark.parametrize("name", ["plain", "home 2", "it's", "$(reboot)"])
def test_the_commands_of_a_sentence_are_quoted_for_a_shell(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    assert told(home)[:4] == ["gossip-node", "init", "--home", str(home)]
    Identity.create(home, name="alice", advertise="h:1").path.chmod(0o644)
    assert told(home) == ["chmod", "600", str(home / IDENTITY_FILE)]


def told(home: Path) -> list[str]:
    """Return the command that loading an identity advises, as a shell takes it."""
    with pytest.raises(SettingError) as caught:
        Identity.load(home)
    (command,) = re.findall("`(.+)`", str(caught.value))
    return shlex.split(command)


def test_a_missing_damaged_or_readable_identity_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="gossip-node init"):
        Identity.load(tmp_path / "none")
    Identity.create(tmp_path, name="alice", advertise="h:1")
    path = tmp_path / IDENTITY_FILE
    good = path.read_bytes()
    path.chmod(0o644)
    with pytest.raises(SettingError, match="chmod 600"):
        Identity.load(tmp_path)
    path.chmod(0o600)
    other = Identity.create(tmp_path / "b", name="alice", advertise="h:1").path.read_bytes()
    cut = good.index(b"-----BEGIN CERTIFICATE")
    for damaged in (
        b"",
        b"\xff\xfe",
        good[:100],
        good[20:],
        good[:cut] + other[other.index(b"-----BEGIN CERT") :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(SettingError, match="damaged"):
            Identity.load(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "ä", "a/b", "a\x1b[0m"])
def test_strange_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="not a peer name"):
        Identity.create(tmp_path, name=name, advertise="h:1")


@pytest.mark.parametrize(
    "text", ["h", ":1", "h:", "h:0", "h:65536", "h:x", "::1:5", "[::1:5", "1.2.3:4", "a b:1", "h:²"]
)
def test_strange_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|brackets"):
        parse_address(text)


@pytest.mark.parametrize("text", ["10.0.0.5:7700", "[::1]:7700", "bob.example:1", "localhost:65535"])
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    assert format_address(*parse_address(text)) == text


def test_a_peers_file_is_sorted_and_forgives_bom_crlf_comments_and_spacing(tmp_path: Path) -> None:
    bob, alice = lines_of(tmp_path, "bob", "alice")
    plain = peers_file.load(write(tmp_path, f"{alice}\n{bob}\n"))
    fancy = peers_file.load(write(tmp_path, f"\ufeff# all of us\r\n\r\n\t{bob}  # bob's\r\n{alice}"))
    assert plain.names == fancy.names == ("alice", "bob")
    assert plain.digest == fancy.digest
    certificate = Identity.load(tmp_path / "bob").certificate_der
    entry = fancy.find_certificate(certificate)
    assert entry is not None
    assert (entry.name, entry.address, entry.line) == ("bob", "127.0.0.1:7700", 3)
    assert fancy.find_certificate(certificate + b"\0") is None
    assert fancy.find("carol") is None


def test_ipv6_addresses_are_compared_in_their_normal_form(tmp_path: Path) -> None:
    path = write(tmp_path, "a [::1]:7700\nb [0:0:0:0:0:0:0:1]:7700\n")
    assert "same address '[::1]:7700' as line 1" in complaint(path, insecure=True)


def test_each_mistake_in_a_peers_file_is_one_sentence_with_its_line(tmp_path: Path) -> None:
    alice, bob = lines_of(tmp_path, "alice", "bob")
    key = alice.split()[2]
    rsa_like = certificate_text(b"\x30\x03\x02\x01\x05")
    for text, expected in [
        ("", "names no peers"),
        (f"{alice}\n{alice}", ":2: peer 'alice' has the same name 'alice' as line 1"),
        (
            f"{alice}\nbob 127.0.0.1:7700 {bob.split()[2]}",
            ":2: peer 'bob' has the same address '127.0.0.1:7700'",
        ),
        (f"{alice}\nbob 127.0.0.1:7701 {key}", "certificate of 'alice'"),
        (f"{alice} extra", ":1: unknown field 'extra'"),
        (f"{alice}\n\nbob", ":3: 'bob' stands alone"),
        ("bob 127.0.0.1:7700", ":1: peer 'bob' has no certificate"),
        ("bob 127.0.0.1:7700 !!!!", "not base64"),
        (f"bob 127.0.0.1:7700 {rsa_like}", "cannot be parsed"),
        (f"bob 127.0.0.1:7700 {certificate_text(bytes(5000))}", "too many"),
        ("b*b 127.0.0.1:7700 x", "not a peer name"),
        ("bob 127.0.0.1 x", "not an address"),
    ]:
        assert expected in complaint(write(tmp_path, text))
    assert ":2: is not UTF-8" in complaint_of_bytes(tmp_path, b"# x\n\xff\xfe")
    assert "no such peers file" in complaint(tmp_path / "none.txt")
    assert "cannot be read" in complaint(tmp_path)


def complaint_of_bytes(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "bytes.txt"
    path.write_bytes(data)
    return complaint(path)


def test_one_key_under_two_names_is_a_duplicate(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    text = "".join(
        f"{name} h:{port} {certificate_text(make_certificate(key, name))}\n"
        for name, port in [("a", 1), ("b", 2)]
    )
    assert ":2: peer 'b' has the same key as line 1" in complaint(write(tmp_path, text))


def test_certificates_may_be_missing_only_when_insecure(tmp_path: Path) -> None:
    (alice,) = lines_of(tmp_path, "alice")
    peers = peers_file.load(write(tmp_path, f"{alice}\nbob h:1"), insecure=True)
    assert [entry.certificate is None for entry in peers] == [False, True]
