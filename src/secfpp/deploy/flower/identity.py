"""Which site of a roster a Flower node speaks for: the site signs the server's challenge with its roster key.

Flower's own keys say which nodes may connect to the SuperLink, and nothing of which site a node is. What a run
keeps secret does not rest on either: its messages are signed for each other by the sites themselves.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from secfpp.crypto.roster import IdentityKey, Roster, fingerprint, pack, verify
from secfpp.deploy.flower.names import KEY, NODE_KEY, NODE_PUBLIC, ROSTER
from secfpp.errors import ConfigError, DataError, TamperError
from secfpp.storage import atomic_write

CHALLENGE_BYTES = 32
_STEP = "deploy.identity"


def site_name(folder: Path) -> str:
    """The name that a site's roster has for its key; both are in its folder.

    Raises:
        ConfigError: none.
        DataError: there is no key or no roster, or one cannot be read.
    """
    return _own(folder)[0]


def sign_challenge(folder: Path, challenge: bytes) -> bytes:
    """The signature, 64 bytes, that the node which got this challenge speaks for the site of `folder`.

    Raises:
        ConfigError, DataError: as `site_name`.
    """
    name, key, roster = _own(folder)
    return key.sign(_statement(challenge, name, roster))


def make_node_key(folder: Path) -> Path:
    """Make the key of a site's SuperNode, on the curve P-384, mode 0600, unless there is one.

    Returns:
        The file of its public half, in the format of OpenSSH.

    Raises:
        DataError: the folder cannot be written.
    """
    if not ((folder / NODE_KEY).exists() and (folder / NODE_PUBLIC).exists()):
        key = generate_private_key(SECP384R1())
        try:
            atomic_write(folder / NODE_KEY, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            atomic_write(folder / NODE_PUBLIC, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror}") from error
    return folder / NODE_PUBLIC


def node_key(folder: Path) -> Path:
    """The file of the private key of a site's SuperNode.

    Raises:
        DataError: there is none, or others may read it.
    """
    path = folder.absolute() / NODE_KEY
    if not path.exists():
        raise DataError(
            f"{path}: no such key. Make one with secfpp site flower-key {folder}, and have its public half registered"
        )
    if path.stat().st_mode & 0o077:
        raise DataError(f"{path} can be read by others: chmod 600 it, or delete it and make another one")
    return path


def _own(folder: Path) -> tuple[str, IdentityKey, Roster]:
    key, roster = IdentityKey.load(folder / KEY), Roster.load(folder / ROSTER)
    for name, public in roster.keys.items():
        if public == key.public:
            return name, key, roster
    raise ConfigError(
        f"the roster of {roster.run!r} has no site with this key ({fingerprint(key.public)}): get the newest roster"
    )


def new_challenge(node: int) -> bytes:
    """A challenge for one node, 40 bytes: random ones, and the node's number."""
    return secrets.token_bytes(CHALLENGE_BYTES) + node.to_bytes(8, "big")


def check_presence(challenge: bytes, signature: bytes, name: str, roster: Roster) -> None:
    """Refuse a node that does not speak for site `name`.

    Raises:
        TamperError: the site did not sign this challenge under this roster.
    """
    public = roster.keys.get(name)
    if public is None or not verify(public, signature, _statement(challenge, name, roster)):
        raise TamperError(name, _STEP, f"a node claims this name without the key of the roster of {roster.run!r}")


def _statement(challenge: bytes, name: str, roster: Roster) -> bytes:
    return pack(b"secfpp/node/1", roster.digest, name.encode(), challenge)
