"""A site's state on its own disk: the last two committed rounds of one run, each file whole or absent."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError

from secfpp.errors import DataError
from secfpp.protocol.program import ClientState
from secfpp.storage import read_record, write_record

_FORMAT = "secfpp-site-state-1"
_NAME = re.compile(r"round-(\d{6})\.safetensors")


class SiteStore:
    """The states of one client in one run.

    Two rounds are kept, since a server that is killed between the sites' commit and its own is one round behind.

    Args:
        folder: of this run.
        run: a name for all that the run's results depend on at this site.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds of which the state is there, rising."""
        found = self.folder.glob("round-*.safetensors")
        return tuple(sorted(int(name[1]) for path in found if (name := _NAME.fullmatch(path.name))))

    def save(self, round_: int, state: ClientState) -> None:
        """Keep the state after a round, and only one before it."""
        about = {"format": _FORMAT, "run": self.run, "round": round_}
        write_record(self._path(round_), state.arrays, about)
        before = [known for known in self.rounds if known < round_]
        for old in set(self.rounds) - {round_, *before[-1:]}:
            self._path(old).unlink(missing_ok=True)

    def load(self, round_: int) -> tuple[int, ClientState] | None:
        """The newest state of `round_` or before, with its round; a site that missed rounds has an older one.

        Raises:
            DataError: a damaged file, or one of another run.
        """
        known = [one for one in self.rounds if one <= round_]
        if not known:
            return None
        path = self._path(known[-1])
        try:
            arrays, about = read_record(path, _FORMAT)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"state {path} cannot be read ({error}): bring it back from a backup") from error
        if about["run"] != self.run:
            raise DataError(f"state {path} belongs to other settings, data or model: give them back, or agree anew")
        return known[-1], ClientState(arrays)

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_:06d}.safetensors"
