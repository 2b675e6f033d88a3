"""A comparison that several machines share: each trains some of the cells, in a directory of its own.

``OUT/shards/I-of-N`` is a run directory like any other. Shards have no file in common, so that nothing depends on
locks, which shared disks may not have; of one that is trained twice at a time, both processes write the same results,
each file whole or not at all. The comparison in ``OUT`` takes over what shards have finished, and trains what none has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.results.cells import FinishedCell, cell_file, load_cell
from secfpp.experiment.results.run_directory import SHARDS, RunDirectory, path_part, state_of, stored_in
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.storage import atomic_write

_FOLDER = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` parts of a comparison; `index` counts from 1."""

    count: int
    index: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``2/8`` as the second of eight.

        Raises:
            ConfigError: something else, or a number out of range.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError([Problem("--shard", text, "I/N, one of N shards, with I from 1 to N, e.g. 2/8")])
        return cls(int(found[2]), int(found[1]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """Its directory's name."""
        return f"{self.index}-of-{self.count}"

    def part(self, plan: Plan, seeds: Sequence[int]) -> Plan:
        """Its cells of `plan`, neighbours in the order of `seeds`: few seeds' data are loaded by several shards.

        Every cell is in exactly one shard, and shards differ by one cell at most.

        Raises:
            ConfigError: more shards than cells.
        """
        cells = sorted(plan.cells, key=lambda cell: seeds.index(cell.seed))
        if self.count > len(cells):
            allowed = f"at most {len(cells)} shards: there are no more methods x seeds to train"
            raise ConfigError([Problem("--shard", str(self), allowed)])
        first, end = ((index * len(cells)) // self.count for index in (self.index - 1, self.index))
        return plan.only(cells[first:end])


@dataclass(frozen=True)
class Found:
    """A cell that a shard has finished, and the shard's directory."""

    finished: FinishedCell
    directory: Path


def finished_by_shards(directory: RunDirectory, plan: Plan, known: Mapping[Cell, FinishedCell]) -> dict[Cell, Found]:
    """The cells of `plan` that shards of a run directory have finished, without those that are `known`.

    Raises:
        ConfigError: a shard has other settings.
        DataError: a file that is damaged, or results of one seed on different data.
    """
    if directory.replaces:
        return {}
    found: dict[Cell, Found] = {}
    data = {cell.seed: (finished.data, directory.path) for cell, finished in known.items()}
    for path, stored in _shards(directory.path):
        theirs = _plan(path, stored)
        theirs.joined(plan)
        for cell in theirs.cells:
            if cell in found or cell in known or cell not in plan.cells:
                continue
            if finished := load_cell(path, cell, plan.identity(cell)):
                digest, first = data.setdefault(cell.seed, (finished.data, path))
                if digest != finished.data:
                    raise DataError(
                        f"seed {cell.seed}: {path} and {first} were trained on different data, so that results would "
                        "mix: delete the one that is wrong and train it again"
                    )
                found[cell] = Found(finished, path)
    return found


def take_over(directory: RunDirectory, found: dict[Cell, Found]) -> None:
    """Copy cells of shards, with prompts and what is known of their data, into a run directory; cells come last."""
    for cell, origin in found.items():
        prompts = Path("prompts", path_part(cell.method), str(cell.seed))
        for source in sorted((origin.directory / prompts).glob("*.safetensors")):
            atomic_write(directory.path / prompts / source.name, source.read_bytes())
        for name in (f"partitions/{cell.seed}.json", "samples.json"):
            if directory.read_json(name) is None and (source := origin.directory / name).exists():
                atomic_write(directory.path / name, source.read_bytes())
        source = cell_file(origin.directory, cell)
        atomic_write(cell_file(directory.path, cell), source.read_bytes())


def unfinished_shards(directory: RunDirectory) -> list[str]:
    """Shards of a run directory that are still running, or were stopped before they had finished, e.g. ``2/8``."""
    if directory.replaces:
        return []
    begun = (path for path, _ in _shards(directory.path))
    return [path.name.replace("-of-", "/") for path in begun if state_of(path) != "finished"]


def _shards(out: Path) -> Iterator[tuple[Path, Any]]:
    """The directories of shards that have begun, in order, and the plan that each has stored."""
    named = [(match, path) for path in (out / SHARDS).glob("*-of-*") if (match := _FOLDER.fullmatch(path.name))]
    for _, path in sorted((Shard(int(match[2]), int(match[1])), path) for match, path in named):
        if stored := stored_in(path):
            yield path, stored


def _plan(directory: Path, stored: Any) -> Plan:
    try:
        return Plan.from_json(stored)
    except DataError as error:
        raise DataError(f"{directory / 'run.json'}: {error}; delete that directory to train its cells again") from error
