from __future__ import annotations

import os
import stat
import struct
import tomllib
from base64 import b32encode, b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from secfpp.crypto.roster import IdentityKey, Roster, fingerprint, pack, public_line, read_public_line, verify
from secfpp.errors import ConfigError, DataError, DiskFullError

KEYS = {"anna": bytes(range(32)), "ben": b"b" * 32, "São João": b"c" * 32}
ROSTER = Roster("trial", 1, KEYS)


def length_prefixed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_packed_fields_are_equal_only_if_the_fields_are(left: list[bytes], right: list[bytes]) -> None:
    assert (pack(*left) == pack(*right)) == (left == right)


def test_signatures_are_those_of_rfc_8032() -> None:
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = IdentityKey(Ed25519PrivateKey.from_private_bytes(private))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = key.sign(b"")
    assert signature.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert verify(key.public, signature, b"")
    assert not verify(key.public, signature, b"x")
    assert not verify(IdentityKey.generate().public, signature, b"")
    assert not verify(key.public[:31], signature, b"")
    assert not verify(key.public, signature[:63], b"")


def test_a_fingerprint_is_160_bits_of_the_hash_in_base32() -> None:
    shown = fingerprint(KEYS["anna"])
    assert [len(group) for group in shown.split("-")] == [4] * 8
    assert shown.replace("-", "") == b32encode(sha256(KEYS["anna"]).digest()[:20]).decode()


def test_an_identity_shows_its_fingerprint_only() -> None:
    key = IdentityKey.generate()
    assert repr(key) == str(key) == f"IdentityKey({fingerprint(key.public)})"
    assert IdentityKey.generate().public != key.public


def test_a_saved_key_is_the_same_key_and_its_owners_only(tmp_path: Path) -> None:
    key, path = IdentityKey.generate(), tmp_path / "new" / "anna.key"
    before = os.umask(0)  # the most permissive one
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert IdentityKey.load(path).public == key.public
    assert [file.name for file in path.parent.iterdir()] == ["anna.key"]


def test_not_even_the_draft_of_a_key_is_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes, opened = [], os.fdopen

    def watched(handle: int, mode: str) -> object:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))  # before a byte is written
        return opened(handle, mode)

    monkeypatch.setattr(os, "fdopen", watched)
    IdentityKey.generate().save(tmp_path / "k")
    assert modes == [0o600]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    first, path = IdentityKey.generate(), tmp_path / "anna.key"
    first.save(path)
    with pytest.raises(ConfigError, match=r"anna\.key exists.*never overwritten"):
        IdentityKey.generate().save(path)
    assert IdentityKey.load(path).public == first.public
    assert len(list(tmp_path.iterdir())) == 1


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for thing in (IdentityKey.generate(), ROSTER):
        with pytest.raises((DataError, DiskFullError), match=r"anna\.key.*No space"):
            thing.save(tmp_path / "anna.key")
    assert list(tmp_path.iterdir()) == []


def test_a_file_cannot_be_inside_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for thing in (IdentityKey.generate(), ROSTER):
        with pytest.raises(DataError, match="cannot be written"):
            thing.save(tmp_path / "file" / "anna.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o777])
def test_a_key_others_have_access_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "anna.key"
    IdentityKey.generate().save(path)
    path.chmod(mode)
    with pytest.raises(DataError, match=rf"mode {mode:04o}.*chmod 600 .*anna\.key"):
        IdentityKey.load(path)
    path.chmod(0o400)
    IdentityKey.load(path)


def pem(private: X25519PrivateKey | Ed25519PrivateKey, password: bytes = b"") -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hush",
        b"\x00\xff" * 99,
        pem(X25519PrivateKey.generate()),
        pem(Ed25519PrivateKey.generate(), b"hush"),
        pem(Ed25519PrivateKey.generate())[:60],
        b"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n",
    ],
    ids=["empty", "text", "binary", "other kind", "encrypted", "cut", "broken"],
)
def test_what_is_no_key_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(DataError, match="no private Ed25519 key as made by: secfpp keys new NAME") as caught:
        IdentityKey.load(path)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_a_missing_key_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*secfpp keys new"):
        IdentityKey.load(tmp_path / "none.key")
    with pytest.raises(DataError, match="directory"):
        IdentityKey.load(tmp_path)


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=30).filter(lambda n: n != "server")


@given(NAMES, st.binary(min_size=32, max_size=32))
def test_a_public_line_comes_back(name: str, public: bytes) -> None:
    line = public_line(name, public)
    assert len(line.splitlines()) == 1
    assert read_public_line(f"{line}\n") == (name, public)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "not a public key"),
        ("secfpp-ed25519", "not a public key"),
        ("secfpp-ed25519 " + b64encode(bytes(32)).decode(), "not a public key"),
        ("ssh-ed25519 " + b64encode(bytes(32)).decode() + " anna", "not a public key"),
        ("secfpp-ed25519 " + b64encode(bytes(31)).decode() + " anna", "public key of 'anna': 32 bytes in base64"),
        ("secfpp-ed25519 hush anna", "public key of 'anna': 32 bytes in base64"),
        ("secfpp-ed25519 " + b64encode(bytes(32)).decode() + " an\0na", "client name 'an"),
        (pem(Ed25519PrivateKey.generate()).decode(), "not a public key"),
    ],
)
def test_other_lines_are_refused(line: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_public_line(line)
    assert "hush" not in str(caught.value) and "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " anna", "anna ", "an\nna", "an\x1bna", "a" * 256, "é" * 128, "server", "\ud800"])
def test_names_that_cannot_be_a_clients_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="client name"):
        Roster("trial", 1, {name: bytes(32)})
    with pytest.raises(ConfigError, match="client name"):
        public_line(name, bytes(32))


@pytest.mark.parametrize(
    ("run", "version", "keys", "said"),
    [
        ("", 1, KEYS, "run name ''"),
        (" ", 1, KEYS, "run name ' '"),
        ("a\nb", 1, KEYS, "run name"),
        ("trial", 0, KEYS, "roster version 0"),
        ("trial", True, KEYS, "roster version True"),
        ("trial", 1 << 63, KEYS, "roster version"),
        ("trial", 1, {}, "at least one client"),
        ("trial", 1, {"anna": b"a" * 31}, "key of 'anna' has 31 bytes, not 32"),
        ("trial", 1, {"anna": b"a" * 32, "ben": b"a" * 32}, "'anna' and 'ben' have one and the same key"),
    ],
)
def test_rosters_that_cannot_work_are_refused(run: str, version: int, keys: dict[str, bytes], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Roster(run, version, keys)


def test_the_digest_is_that_of_run_version_and_clients_in_order() -> None:
    clients = [field for name in sorted(KEYS) for field in (name.encode(), KEYS[name])]
    encoded = length_prefixed(b"secfpp/roster/1", b"trial", struct.pack(">Q", 1), *clients)
    assert ROSTER.digest == sha256(encoded).digest()
    assert ROSTER.fingerprint.replace("-", "") == b32encode(ROSTER.digest[:20]).decode()
    assert Roster("trial", 1, dict(reversed(KEYS.items()))) == ROSTER
    assert list(ROSTER.keys) == sorted(KEYS)


def test_the_digest_covers_everything() -> None:
    others = [
        Roster("trial2", 1, KEYS),
        Roster("trial", 2, KEYS),
        Roster("trial", 1, {**KEYS, "ben": b"B" * 32}),
        Roster("trial", 1, {**KEYS, "dora": b"d" * 32}),
        Roster("trial", 1, {"anna": KEYS["anna"], "ben": KEYS["ben"]}),
        Roster("trial", 1, {"anna": KEYS["ben"], "ben": KEYS["anna"], "São João": KEYS["São João"]}),
    ]
    assert len({roster.digest for roster in [ROSTER, *others]}) == len(others) + 1


def test_a_change_makes_the_next_version_and_leaves_the_old() -> None:
    joined = ROSTER.with_client("dora", b"d" * 32)
    assert (joined.version, joined.keys) == (2, {**KEYS, "dora": b"d" * 32})
    assert joined.without("dora") == Roster("trial", 3, KEYS)
    assert ROSTER.with_key("ben", b"B" * 32) == Roster("trial", 2, {**KEYS, "ben": b"B" * 32})
    assert (ROSTER.version, ROSTER.keys) == (1, KEYS)


def test_changes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'ben' is in this roster already.*replace"):
        ROSTER.with_client("ben", b"B" * 32)
    with pytest.raises(ConfigError, match="'anna' and 'dora' have one and the same key"):
        ROSTER.with_client("dora", KEYS["anna"])
    with pytest.raises(ConfigError, match="'anna' and 'ben' have one and the same key"):
        ROSTER.with_key("ben", KEYS["anna"])
    with pytest.raises(ConfigError, match="the key that 'ben' has already"):
        ROSTER.with_key("ben", KEYS["ben"])
    with pytest.raises(ConfigError, match=r"'dora' is not in this roster of .*anna, ben.*keys roster show"):
        ROSTER.without("dora")
    with pytest.raises(ConfigError, match=r"'dora' is not in this roster of .*anna, ben.*keys roster add"):
        ROSTER.with_key("dora", b"d" * 32)
    with pytest.raises(ConfigError, match="at least one client"):
        Roster("trial", 1, {"anna": KEYS["anna"]}).without("anna")


def test_a_roster_file_is_readable_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "roster.toml"
    odd = Roster('say "x"', 7, {"a.b": b"1" * 32, 'q"]\\': b"2" * 32, "名": b"3" * 32})
    for roster in (ROSTER, odd):
        roster.save(path)
        assert Roster.load(path) == roster
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        assert about["fingerprint"] == roster.fingerprint
        assert {name: entry["fingerprint"] for name, entry in about["clients"].items()} == {
            name: fingerprint(public) for name, public in roster.keys.items()
        }
        assert b64decode(next(iter(about["clients"].values()))["key"]) == next(iter(roster.keys.values()))


OTHER_KEY = b64encode(b"x" * 32).decode()
BEN = b64encode(KEYS["ben"]).decode()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", "version = 2", "the roster has the fingerprint .* compare fingerprints"),
        ('run = "trial"', 'run = "other"', "the roster has the fingerprint"),
        ("[clients.ben]", "[clients.bob]", "the roster has the fingerprint"),
        (BEN, OTHER_KEY, "the key of 'ben' has the fingerprint"),
        (f'key = "{BEN}"', f'key = "{BEN}"\nrole = "x"', "a roster has no 'role'"),
        ("version = 1", "version = 1\ncolour = 1", "a roster has no 'colour'"),
        ("version = 1", "version = '1'", "roster version '1'"),
        ('run = "trial"', "run = 3", "run name 3"),
        (BEN, BEN[:-4], "public key of 'ben': 32 bytes"),
        (f'key = "{BEN}"', "key = 5", "public key of 'ben': 32 bytes"),
        (f'key = "{BEN}"', "", "no roster: 'key' is missing"),
        ("version = 1", "", "no roster: 'version' is missing"),
        ("[clients.ben]", "[clients.ben", "is no roster"),
        ('[clients."São João"]', "[other]", "a roster has no 'other'"),
    ],
)
def test_a_roster_changed_by_hand_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "roster.toml"
    ROSTER.save(path)
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=said) as caught:
        Roster.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"clients = 3", b"run = 'x'\nversion = 1\nclients = 3", b"[clients]\nanna = 3", b"\xff\xfe", b"run = 'x'"],
)
def test_files_that_are_no_roster_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "roster.toml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"roster\.toml"):
        Roster.load(path)


def test_a_missing_roster_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*secfpp keys roster new"):
        Roster.load(tmp_path / "roster.toml")
