"""Transcripts of runs: where they are, and what one party saw of a run, by phase and step."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.results.run_directory import path_part
from secfpp.experiment.results.security_costs import PHASES
from secfpp.experiment.spec.plan import Cell
from secfpp.experiment.spec.schema import one_of
from secfpp.protocol.transcript import SERVER, Direction, Form
from secfpp.protocol.transcript_file import StoredMessage, TranscriptFile, read_transcript

SUFFIX = ".jsonl"
SEALED = ("envelope", "tallies", "proofs", "body", "bodies")
"""How names of arrays begin that hold envelopes: whoever passes them on cannot read them."""
MASKED = ("masked", "checks", "answers")
"""Names of arrays under masks: of those of all, only a sum tells something, or whether a proof holds."""


@dataclass(frozen=True)
class Row:
    """Messages of one kind that a party saw.

    Attributes:
        phase: see `secfpp.experiment.results.security_costs.PHASES`.
        step: ``component.step``.
        purpose: of the step, in words; empty if the transcript does not say.
        direction: ``down`` from the server, ``up`` to it.
        clients: who are at the other end of the server, sorted.
        rounds: first and last.
        messages: how many.
        size: bytes of all.
        content: arrays that they have, each once, by how they can be read.
    """

    phase: str
    step: str
    purpose: str
    direction: Direction
    clients: tuple[str, ...]
    rounds: tuple[int, int]
    messages: int
    size: int
    content: Mapping[str, tuple[str, ...]]


def record(folder: Path, cell: Cell, algorithm: object, *, go_on: bool) -> TranscriptFile:
    """A transcript of a cell, to be opened; `go_on` after what an earlier session wrote."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = {"method": cell.method, "seed": cell.seed, "steps": purposes(algorithm)}
    return TranscriptFile(_file(folder, cell), about, go_on=go_on)


def purposes(algorithm: object) -> dict[str, str]:
    """What each step of a method is for, ``component.step`` -> the first sentence of its docstring."""
    parts = {name: algorithm if name == "method" else getattr(algorithm, name, None) for name in PHASES}
    found = {}
    for name, part in parts.items():
        for step, handler in inspect.getmembers(type(part)) if is_dataclass(part) else ():
            if getattr(handler, "__secfpp_step__", False):
                found[f"{name}.{step}"] = (inspect.getdoc(handler) or "").partition("\n\n")[0].replace("\n", " ")
    return found


def stored(folder: Path, method: str = "", seed: int | None = None) -> list[StoredMessage]:
    """The transcript of a method on a seed; of the only one, or of the first, where nothing is named.

    Raises:
        ConfigError: there is none of these names.
        DataError: there is none at all, or it is damaged.
    """
    files = sorted(folder.glob(f"*/*{SUFFIX}"), key=lambda file: (file.parent.name, int(file.stem)))
    if not files:
        raise DataError(f"{folder}: no transcript is there; make one with secfpp run ... --transcript {folder}")
    of = [file for file in files if method in ("", file.parent.name) or path_part(method) == file.parent.name]
    if not of:
        known = {file.parent.name for file in files}
        raise ConfigError([Problem("--method", method, one_of(method, known, "method of this transcript"))])
    of_seed = [file for file in of if seed in (None, int(file.stem))]
    if not of_seed:
        raise ConfigError([Problem("--seed", seed, f"one of: {', '.join(file.stem for file in of)}")])
    return list(read_transcript(of_seed[0]))


def seen(messages: Iterable[StoredMessage], party: str) -> list[StoredMessage]:
    """What a party sent and got.

    Raises:
        ConfigError: nobody of that name is there.
    """
    everything = list(messages)
    found = [one for one in everything if one.message.seen_by(party)]
    if not found and party != SERVER:
        known = {SERVER, *(one.message.client for one in everything)}
        raise ConfigError([Problem("--party", party, one_of(party, known, "party of this run"))])
    return found


def rows(messages: Iterable[StoredMessage]) -> list[Row]:
    """The messages by phase, step, direction and content, in the order of `PHASES` and of their first appearance."""
    groups: dict[Any, list[StoredMessage]] = {}
    for one in messages:
        key = phase(one), one.message.step, one.message.direction, tuple(_names(one.message.arrays))
        groups.setdefault(key, []).append(one)
    order = list(PHASES.values())
    place = {(group[0], group[1]): index for index, group in reversed(list(enumerate(groups)))}

    def by_phase(key: Any) -> tuple[int, int, bool]:
        return (order.index(key[0]) if key[0] in order else len(order), place[key[0], key[1]], key[2] == "up")

    return [_row(key[0], groups[key]) for key in sorted(groups, key=by_phase)]


def phase(one: StoredMessage) -> str:
    """The phase that a message belongs to."""
    return PHASES.get(one.message.component, one.message.component)


def as_json(one: StoredMessage) -> dict[str, Any]:
    """All that is known of a message."""
    m = one.message
    return {
        "session": one.session,
        "round": m.round,
        "exchange": m.exchange,
        "phase": phase(one),
        "step": m.step,
        "purpose": one.about.get("steps", {}).get(m.step, ""),
        "sender": m.sender,
        "receiver": m.receiver,
        "delivered": m.delivered,
        "bytes": m.size,
        "sha256": m.sha256,
        "content": [
            {"name": name, "type": kind, "shape": list(shape), "reader": reader(name, one), "form": form(name)}
            for name, kind, shape in m.arrays
        ],
    }


def form(name: str) -> str:
    """How an array of that name can be read: ``sealed``, ``masked`` or ``clear``."""
    return "sealed" if name.startswith(SEALED) else "masked" if name in MASKED else "clear"


def reader(name: str, one: StoredMessage) -> str:
    """Who can read an array: the receiver, unless it is sealed for others."""
    upwards = one.message.direction == "up"
    return "other clients" if form(name) == "sealed" and upwards else one.message.receiver


def _row(name: str, group: list[StoredMessage]) -> Row:
    first, arrays = group[0], dict[str, dict[str, None]]()
    for one in group:
        for word, (of_form, told) in _names(one.message.arrays).items():
            arrays.setdefault(of_form, {})[f"{word} ({told})"] = None
    numbers = [one.message.round for one in group]
    return Row(
        name,
        first.message.step,
        str(first.about.get("steps", {}).get(first.message.step, "")),
        first.message.direction,
        tuple(sorted({one.message.client for one in group})),
        (min(numbers), max(numbers)),
        len(group),
        sum(one.message.size for one in group),
        {of_form: tuple(words) for of_form, words in arrays.items()},
    )


def _names(arrays: Iterable[Form]) -> dict[str, tuple[str, str]]:
    """Arrays by name, those that differ in a client or a number only as one: how they can be read, and their type."""
    found = {}
    for name, kind, _ in arrays:
        head, dot, _ = name.partition(".")
        found[f"{head}.*" if dot else name] = (form(name), "text" if kind == "str" else kind)
    return found


def _file(folder: Path, cell: Cell) -> Path:
    return folder / path_part(cell.method) / f"{cell.seed}{SUFFIX}"
