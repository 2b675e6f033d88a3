"""A training run's state after a round, in one file: what a killed run goes on from.

The round is the unit of commit. A checkpoint holds the server's state, every client's state, the privately chosen
prompts, the result rows and the costs so far; it is replaced in one rename, so that a reader finds a whole one or none.
The file holds every simulated client's private parts and is readable by its owner only. What clients share, such as the
last mean, is in it once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from secfpp.algorithms.base import ServerState
from secfpp.errors import DataError
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.program import ClientId, ClientState
from secfpp.protocol.refusals import Refusal
from secfpp.runtime.costs import Costs
from secfpp.secure.means.updates import Base
from secfpp.storage import read_record, write_record

_FORMAT = "secfpp-checkpoint-5"


@dataclass
class TrainingState:
    """Everything that a round changes.

    Attributes:
        server: the server's state.
        clients: each client's state.
        chosen: the prompts that clients chose on their validation data, float32 [n_clients, n_ctx, text_dim].
        best: the accuracies they were chosen by, float64 [n_clients].
        round: rounds done.
        rows: lines of ``metrics.jsonl``.
        costs: so far.
        seconds: of training so far.
        refusals: what parties refused so far.
    """

    server: ServerState
    clients: dict[ClientId, ClientState]
    chosen: np.ndarray
    best: np.ndarray
    round: int = 0
    rows: list[Mapping[str, object]] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs)
    seconds: float = 0.0
    refusals: list[Refusal] = field(default_factory=list)


def save_checkpoint(path: Path, state: TrainingState, run: str) -> None:
    """Replace the checkpoint at `path`; `run` names everything that the run's results depend on."""
    slots, arrays = _packed(list(state.clients.values()))
    arrays |= {"chosen": state.chosen, "best": state.best}
    assignment, found = state.server.assignment, state.server.found
    about = {
        "format": _FORMAT,
        "run": run,
        "round": state.round,
        "clients": list(state.clients),
        "slots": slots,
        "assignment": dict(assignment.cluster_of) if assignment else None,
        "found": dict(found.cluster_of) if found else None,
        "members": list(state.server.members),
        "behind": sorted(state.server.behind),
        "chosen": dict(state.server.chosen),
        "bases": {key: [base.version, base.digest] for key, base in state.server.bases.items()},
        "refusals": [astuple(refusal) for refusal in state.refusals],
        "rows": state.rows,
        "costs": state.costs.as_dict(),
        "seconds": state.seconds,
    }
    write_record(path, arrays, about)


def load_checkpoint(path: Path, run: str) -> TrainingState | None:
    """The state saved at `path`, or None if there is no such file.

    Raises:
        DataError: a damaged file, or one of another run.
    """
    if not path.exists():
        return None
    try:
        arrays, about = read_record(path, _FORMAT)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"checkpoint {path} cannot be read ({error}): delete it to train from the start") from error
    if about["run"] != run:
        raise DataError(
            f"checkpoint {path} belongs to other settings, data or model: give them back, or delete it to start anew"
        )
    return TrainingState(
        server=ServerState(
            Assignment(about["assignment"]) if about["assignment"] else None,
            tuple(about["members"]),
            Assignment(about["found"]) if about["found"] else None,
            frozenset(about["behind"]),
            {key: Base(*base) for key, base in about["bases"].items()},
            about.get("chosen", {}),
        ),
        clients=dict(zip(about["clients"], _unpacked(about["slots"], arrays, len(about["clients"])), strict=True)),
        chosen=arrays["chosen"],
        best=arrays["best"],
        round=about["round"],
        rows=about["rows"],
        costs=Costs.from_dict(about["costs"]),
        seconds=about["seconds"],
        refusals=[Refusal(*one) for one in about["refusals"]],
    )


def _packed(states: Sequence[ClientState]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all slots, and what is in them.

    Slot number s has the different values of each form (number type and shape) stacked, as ``s.0``, ``s.1`` and so on,
    and in ``s.of``, int64 [clients, 2], the form and the place of each client's value; -1 where it has no such slot.
    """
    slots = sorted({slot for state in states for slot in state.arrays})
    packed: dict[str, np.ndarray] = {}
    for number, slot in enumerate(slots):
        forms: dict[tuple[str, tuple[int, ...]], tuple[int, dict[bytes, int], list[np.ndarray]]] = {}
        of = np.full((len(states), 2), -1, np.int64)
        seen: dict[int, int] = {}  # the place in `of` by the identity of an array, which many states may share
        for i, state in enumerate(states):
            if slot not in state:
                continue
            if (first := seen.setdefault(id(state[slot]), i)) < i:
                of[i] = of[first]
            else:
                value = np.asarray(state[slot], order="C")
                form, places, values = forms.setdefault((value.dtype.str, value.shape), (len(forms), {}, []))
                place = places.setdefault(sha256(value.data).digest(), len(values))
                if place == len(values):
                    values.append(value)
                of[i] = form, place
        packed |= {f"{number}.{form}": np.stack(values) for form, _, values in forms.values()}
        packed[f"{number}.of"] = of
    return slots, packed


def _unpacked(slots: Sequence[str], arrays: Mapping[str, np.ndarray], clients: int) -> list[ClientState]:
    """The states that `_packed` packed; what they share is in memory once, and nobody can write to it."""
    states: list[dict[str, np.ndarray]] = [{} for _ in range(clients)]
    for number, slot in enumerate(slots):
        for state, (form, place) in zip(states, arrays[f"{number}.of"].tolist(), strict=True):
            if form >= 0:
                state[slot] = arrays[f"{number}.{form}"][place, ...]
                state[slot].flags.writeable = False
    return [ClientState(state) for state in states]
