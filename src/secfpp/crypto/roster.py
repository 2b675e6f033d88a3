"""Who is who: long-lived signature keys of the clients, and the list of them that all parties share.

Assumptions: Ed25519 (RFC 8032) cannot be forged and SHA-256 has no collisions; every party got the same roster
over a way that an attacker does not control (people compare fingerprints by phone). Private keys come from the
operating system's generator and are kept in files of mode 0600, as unencrypted PKCS #8 (RFC 5958), which other
tools can read.
"""

from __future__ import annotations

import os
import secrets
import stat
import tomllib
from base64 import b32encode, b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secfpp.errors import ConfigError, DataError
from secfpp.storage import atomic_write

KEY_BYTES = 32
"""Length of a public key."""
_LINE = "secfpp-ed25519"
_RESERVED = "server"
_ELSEWHERE = "Choose another file: secfpp keys new NAME --out FILE"


def pack(*fields: bytes) -> bytes:
    """Fields as one string from which they can be told again: each follows its length, 8 bytes, big-endian."""
    return b"".join([len(field).to_bytes(8, "big") + field for field in fields])


def fingerprint(public: bytes) -> str:
    """The first 160 bits of a public key's SHA-256 in base32, eight groups of four: short enough for the phone."""
    return _groups(sha256(public).digest())


def _groups(digest: bytes) -> str:
    text = b32encode(digest[:20]).decode()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


class IdentityKey:
    """A client's long-lived Ed25519 key; `generate` or `load` one."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> IdentityKey:
        """A fresh key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, 64 bytes."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"IdentityKey({fingerprint(self.public)})"

    def save(self, path: Path) -> None:
        """Write the private key, whole or not at all, for its owner only.

        Raises:
            ConfigError: the file exists; a key is never overwritten.
            DataError: it cannot be written.
        """
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(pem)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, path)  # unlike a rename, never replaces a file
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            if os.path.exists(path):  # unlike Path.exists, no error if the name is too long
                raise ConfigError(f"{path} exists: a key is never overwritten. {_ELSEWHERE}") from error
            raise DataError(f"{path} cannot be written: {error.strerror}. {_ELSEWHERE}") from error

    @classmethod
    def load(cls, path: Path) -> IdentityKey:
        """The key in the file `path`.

        Raises:
            DataError: no such file, one that others than its owner may read or change, or no private Ed25519 key.
        """
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if os.name == "posix" and mode & 0o077:
                    raise DataError(
                        f"{path} has mode {mode:04o}, so others than its owner have access to this private key. "
                        f"Run chmod 600 {path}; if others may have read it, make a new key"
                    )
                data = file.read(1 << 16)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Make a key with: secfpp keys new NAME") from error
        try:
            private = load_pem_private_key(data, None)
        except (ValueError, TypeError):  # not chained below: what a parser says of a key file may quote it
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise DataError(f"{path} is no private Ed25519 key as made by: secfpp keys new NAME")
        return cls(private)


@lru_cache(maxsize=1 << 12)  # clients that share a process are shown the same signatures
def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is that of `message` under the Ed25519 key `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_line(name: str, public: bytes) -> str:
    """A name and its public key as one line of text to send around."""
    return f"{_LINE} {b64encode(public).decode()} {_named(name)}"


def read_public_line(text: str) -> tuple[str, bytes]:
    """Name and public key of a `public_line`.

    Raises:
        DataError: anything else.
    """
    match text.strip().split(" ", 2):
        case [kind, key, name] if kind == _LINE:
            try:
                return _named(name), _decoded(name, key)
            except ConfigError as error:
                raise DataError(str(error)) from error
    raise DataError(f"not a public key: one line '{_LINE} KEY NAME' is needed, as in the file NAME.pub")


def _named(name: str) -> str:
    """`name`, if it can be a client's.

    Raises:
        ConfigError: it cannot.
    """
    if not name.isprintable() or name != name.strip() or not 0 < len(name.encode()) < 256 or name == _RESERVED:
        raise ConfigError(
            f"client name {name!r}: 1 to 255 bytes of printable text without blanks at its ends are needed, "
            f"and not {_RESERVED!r}"
        )
    return name


def _decoded(name: str, text: object) -> bytes:
    try:
        public = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        public = b""
    if len(public) != KEY_BYTES:
        raise ConfigError(f"the public key of {name!r}: {KEY_BYTES} bytes in base64 are needed")
    return public


@dataclass(frozen=True)
class Roster:
    """The clients of one run and their public keys; all parties of a run must hold the same one.

    Args:
        run: name of the run.
        version: 1 for the first roster of the run, one more with every change.
        keys: client to its Ed25519 public key, 32 bytes.

    Raises:
        ConfigError: an empty run name, a version below 1, no client, a name that cannot be a client's, a key of
            another length, or one key under two names.
    """

    run: str
    version: int
    keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not (self.run.strip() and self.run.isprintable()):
            raise ConfigError(f"run name {self.run!r}: printable text is needed")
        if type(self.version) is not int or not 1 <= self.version < 1 << 63:
            raise ConfigError(f"roster version {self.version!r}: versions are integers from 1")
        if not self.keys:
            raise ConfigError("a roster needs at least one client")
        owner: dict[bytes, str] = {}
        for name, public in sorted(self.keys.items()):
            if len(public) != KEY_BYTES:
                raise ConfigError(f"the public key of {_named(name)!r} has {len(public)} bytes, not {KEY_BYTES}")
            if (other := owner.setdefault(bytes(public), _named(name))) != name:
                raise ConfigError(f"{other!r} and {name!r} have one and the same key: every client makes its own")
        object.__setattr__(self, "keys", {name: public for public, name in owner.items()})

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything in the roster, 32 bytes."""
        clients = [field for name, public in self.keys.items() for field in (name.encode(), public)]
        return sha256(pack(b"secfpp/roster/1", self.run.encode(), self.version.to_bytes(8, "big"), *clients)).digest()

    @property
    def fingerprint(self) -> str:
        """The digest in short, to compare by phone."""
        return _groups(self.digest)

    def with_client(self, name: str, public: bytes) -> Roster:
        """The next version, with one more client.

        Raises:
            ConfigError: the client is there already, or the key is not usable.
        """
        if name in self.keys:
            raise ConfigError(f"{name!r} is in this roster already; for a new key use: secfpp keys roster replace")
        return replace(self, version=self.version + 1, keys={**self.keys, name: public})

    def without(self, name: str) -> Roster:
        """The next version, with one client less.

        Raises:
            ConfigError: no such client, or the last one.
        """
        self._require(name, "See who is in it, and how the name is spelled, with: secfpp keys roster show")
        return replace(self, version=self.version + 1, keys={n: key for n, key in self.keys.items() if n != name})

    def with_key(self, name: str, public: bytes) -> Roster:
        """The next version, with a new key of a client that lost its old one.

        Raises:
            ConfigError: no such client, or the key is not usable or the old one.
        """
        self._require(name, "A new client is added with: secfpp keys roster add")
        if self.keys[name] == public:
            raise ConfigError(f"this is the key that {name!r} has already: make a new one with: secfpp keys new")
        return replace(self, version=self.version + 1, keys={**self.keys, name: public})

    def _require(self, name: str, remedy: str) -> None:
        if name not in self.keys:
            raise ConfigError(f"{name!r} is not in this roster of {', '.join(self.keys)}. {remedy}")

    def save(self, path: Path) -> None:
        """Write the roster as TOML; replaces an older version.

        Raises:
            DataError: it cannot be written.
        """
        clients = {
            name: {"key": b64encode(public).decode(), "fingerprint": fingerprint(public)}
            for name, public in self.keys.items()
        }
        about = {"run": self.run, "version": self.version, "fingerprint": self.fingerprint, "clients": clients}
        try:
            atomic_write(path, tomli_w.dumps(about).encode())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}. Choose another file or folder") from error

    @classmethod
    def load(cls, path: Path) -> Roster:
        """The roster in the file `path`; its fingerprints are checked.

        Raises:
            DataError: no such file, or no roster; a fingerprint that does not fit.
        """
        try:
            about = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Make a roster with: secfpp keys roster new") from error
        except ValueError as error:
            raise DataError(f"{path} is no roster: {error}") from error
        try:
            return cls._parse(about)
        except KeyError as error:
            raise DataError(f"{path} is no roster: {error} is missing") from error
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def _parse(cls, about: Mapping[str, Any]) -> Roster:
        clients = about["clients"]
        if not (isinstance(clients, dict) and all(isinstance(entry, dict) for entry in clients.values())):
            raise ValueError("a roster has a table [clients.NAME] for each client")
        if not isinstance(about["run"], str):
            raise ValueError(f"run name {about['run']!r}: printable text is needed")
        for given, known in [(about, {"run", "version", "fingerprint", "clients"})] + [
            (entry, {"key", "fingerprint"}) for entry in clients.values()
        ]:
            if unknown := sorted(given.keys() - known):
                raise ValueError(f"a roster has no {', '.join(map(repr, unknown))}")
        roster = cls(
            about["run"], about["version"], {name: _decoded(name, entry["key"]) for name, entry in clients.items()}
        )
        for name, public in roster.keys.items():
            _check_fingerprint(f"the key of {name!r}", clients[name]["fingerprint"], fingerprint(public))
        _check_fingerprint("the roster", about["fingerprint"], roster.fingerprint)
        return roster


def _check_fingerprint(what: str, written: object, true: str) -> None:
    if written != true:
        raise ValueError(
            f"{what} has the fingerprint {true}, but {written} is written there: the file was changed by hand or "
            "damaged. Ask for it again and compare fingerprints"
        )
