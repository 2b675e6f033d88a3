"""What a client has done in its present round, so that it does not do it twice: also after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from secfpp.errors import DataError, TamperError
from secfpp.storage import atomic_write

RESTARTS = 5
"""How often a round may be started again: what leaves under noise is noisy anew each time, and charged each time."""
DRAWS = 2
"""How often a round's committee may be drawn: once more if somebody commits to randomness and does not show it."""


@dataclass
class Ledger:
    """The present round, and what is allowed in it once.

    Rounds only go up. With a `path`, every entry is on disk before what it allows leaves the client; the file belongs
    beside the identity key and holds no secret.

    Args:
        path: where to keep it; None keeps it in memory.
        round: the latest round.
        draw: number of the latest drawing of a committee in it, from 0.
        done: what was done in it.
        restarts: how often it was started again.
        bound: what else may be done in it only with the same others, with a hash of them; see `again`.
    """

    path: Path | None = None
    round: int = -1
    draw: int = 0
    done: set[str] = field(default_factory=set)
    bound: dict[str, str] = field(default_factory=dict)
    restarts: int = 0

    @classmethod
    def at(cls, path: Path) -> Ledger:
        """The ledger kept at `path`, or a new one.

        Raises:
            DataError: a file that is none.
        """
        if not path.exists():
            return cls(path)
        try:
            kept = json.loads(path.read_bytes())
            bound = {str(what): str(whom) for what, whom in kept.get("bound", {}).items()}
            done, restarts = set(map(str, kept["done"])), int(kept.get("restarts", 0))
            return cls(path, int(kept["round"]), int(kept["draw"]), done, bound, restarts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} says what this client gave in its last round, and cannot be read ({error}): bring it back, or "
                "delete it only if that round is over for everybody"
            ) from error

    def begin(self, round_: int, draw: int) -> None:
        """Enter a round, or its second drawing of a committee; nothing if that is the present one.

        Raises:
            TamperError: an earlier one, or one drawing too many.
        """
        if (round_, draw) < (self.round, self.draw) or draw >= DRAWS:
            found = f"round {round_}, drawing {draw + 1}, after round {self.round}, drawing {self.draw + 1}"
            raise TamperError(None, "session.hello", f"{found}: rounds only go up, with {DRAWS} drawings each")
        if (round_, draw) > (self.round, self.draw):
            if round_ > self.round:
                self.done.clear()
                self.bound.clear()
                self.restarts = 0
            self.round, self.draw = round_, draw
            self._save()

    def once(self, what: str) -> None:
        """Note that `what` is done in this round.

        Raises:
            TamperError: it was done before.
        """
        self.undone(what)
        self.done.add(what)
        self._save()

    def undone(self, what: str) -> None:
        """Refuse what was done in this round.

        Raises:
            TamperError: it was.
        """
        if what in self.done:
            raise TamperError(None, what, "asked for a second time in one round: two answers could be compared")

    def bind(self, what: str, whom: str) -> None:
        """Note with whom `what` is done in this round, a hash that says it all.

        Raises:
            TamperError: it was done with others, before the round was started again.
        """
        if self.bound.setdefault(what, whom) != whom:
            found = "asked for again after a restart, with others than before: two answers could be compared"
            raise TamperError(None, what, found)
        self._save()

    def again(self) -> None:
        """Let the present round be done again from its start, since its end was lost.

        What was done counts as not done; what was bound stays so: nothing is given out of other clients than before.

        Raises:
            TamperError: it was started again too often.
        """
        if self.restarts == RESTARTS:
            found = f"round {self.round} was started again {RESTARTS} times: no server is killed so often in one round"
            raise TamperError(None, "open", found)
        self.done.clear()
        self.draw = 0
        self.restarts += 1
        self._save()

    def _save(self) -> None:
        if self.path is not None:
            kept = {"round": self.round, "draw": self.draw, "done": sorted(self.done), "bound": self.bound}
            kept["restarts"] = self.restarts
            atomic_write(self.path, json.dumps(kept).encode())
