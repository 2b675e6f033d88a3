"""Which site of a roster a Flower node speaks for: the site signs the server's challenge with its roster key.

Flower's own keys authenticate a node to the SuperLink, and the node's configuration can claim any name. What a run
keeps secret does not rest on this: its messages are signed for each other by the sites themselves.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from secfpp.crypto.roster import IdentityKey, Roster, fingerprint, pack, verify
from secfpp.deploy.flower.names import KEY, ROSTER
from secfpp.errors import ConfigError, TamperError

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
