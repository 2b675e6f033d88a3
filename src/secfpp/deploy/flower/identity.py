"""Which site of a roster a Flower node speaks for: the site signs the server's challenge with its roster key.

Flower's own keys authenticate a node to the SuperLink, and the node's configuration can claim any name. What a run
keeps secret does not rest on this: its messages are signed for each other by the sites themselves.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from secfpp.crypto.roster import IdentityKey, Roster, pack, verify
from secfpp.errors import ConfigError, DataError, TamperError
from secfpp.storage import atomic_write

CHALLENGE_BYTES = 32
_FILE = "flower.json"
_STEP = "deploy.identity"
_COMMAND = "secfpp site flower DIR"


@dataclass(frozen=True)
class SiteBinding:
    """What a site's folder knows of Flower.

    Attributes:
        folder: the site's folder.
        name: the site.
        key: file of its identity.
        roster: file of the roster.
    """

    folder: Path
    name: str
    key: Path
    roster: Path

    @classmethod
    def load(cls, folder: Path) -> SiteBinding:
        """The binding of a folder.

        Raises:
            DataError: there is none, or it is damaged.
        """
        path = folder / _FILE
        try:
            about = json.loads(path.read_bytes())
            return cls(folder, str(about["name"]), Path(about["key"]), Path(about["roster"]))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Write it with: {_COMMAND}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged; write it again with: {_COMMAND}") from error

    def sign(self, challenge: bytes) -> bytes:
        """The signature, 64 bytes, that the node which got this challenge speaks for this site.

        Raises:
            DataError: key or roster cannot be read.
        """
        return IdentityKey.load(self.key).sign(_statement(challenge, self.name, Roster.load(self.roster)))


def bind_site(folder: Path, name: str, key: Path, roster: Path) -> SiteBinding:
    """Let the site in `folder` take part by Flower.

    Args:
        folder: the site's folder.
        name: the site's name in the roster.
        key: file of its identity.
        roster: file of the roster.

    Raises:
        ConfigError: `name` is not in the roster, or has another key there.
        DataError: a file that cannot be read or written.
    """
    known = Roster.load(roster)
    if known.keys.get(name) != IdentityKey.load(key).public:
        raise ConfigError(
            f"the roster of {known.run!r} has no {name!r} with this site's key: ask for the newest roster"
        )
    about = {"name": name, "key": str(key.absolute()), "roster": str(roster.absolute())}
    try:
        atomic_write(folder / _FILE, f"{json.dumps(about, indent=2)}\n".encode())
    except OSError as error:
        raise DataError(f"{folder / _FILE} cannot be written: {error.strerror}") from error
    return SiteBinding.load(folder)


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
