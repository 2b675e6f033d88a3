"""Which pictures are for training, validation and test.

Where the user has put them, they stay. Where nobody has, each class of each client (or of each domain yet to be dealt)
is split by a seed, so that adding a client leaves the splits of the others as they are. Pictures of one group, such as
a patient, are never on two sides: whole groups are then put where they are most wanted.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secfpp.data.holdings import PARTS, Holding, Part, Picture
from secfpp.data.rules import SHOWN, raise_all
from secfpp.errors import DataWarning
from secfpp.seeding import Seed, derive

Cell = tuple[int, str]
"""A class of a holding, by the holding's position."""


def split(holdings: Sequence[Holding], validation: float, test: float, seed: int) -> list[list[Part]]:
    """The part of each picture of each holding.

    Args:
        holdings: the pictures. Either all have a part or none; a part but for training that none has is taken from
            those for training.
        validation: share of each class for validation.
        test: share of each class for the test.
        seed: of the split.

    Raises:
        DataError: a group that the user has put into two parts; names it.
    """
    given = {picture.part for holding in holdings for picture in holding.pictures}
    if None not in given:
        require_whole_groups([picture for holding in holdings for picture in holding.pictures])
    validation = 0.0 if "validation" in given else validation
    test = 0.0 if "test" in given else test
    if not validation and not test:
        return [[picture.part or "train" for picture in holding.pictures] for holding in holdings]
    grouped = any(picture.group for holding in holdings for picture in holding.pictures)
    open_ = [Holding(h.place, h.domain, h.client, tuple(p for p in h.pictures if _is_open(p))) for h in holdings]
    chosen = _by_group(open_, validation, test, seed) if grouped else _by_picture(open_, validation, test, seed)
    found: list[list[Part]] = []
    for holding, parts in zip(holdings, chosen, strict=True):
        rest = iter(parts)
        found.append([next(rest) if _is_open(p) else p.part or "train" for p in holding.pictures])
    return found


def require_whole_groups(pictures: Sequence[Picture]) -> None:
    """Refuse groups that are in two parts.

    Raises:
        DataError: names each group, the parts, and a picture in each.
    """
    first: dict[str, Picture] = {}
    problems: dict[str, str] = {}
    for picture in pictures:
        known = first.setdefault(picture.group, picture) if picture.group else picture
        if known.part != picture.part:
            problems.setdefault(
                picture.group,
                f"group {picture.group!r} is in two parts, {known.part} ({known.path}) and {picture.part} "
                f"({picture.path}): put all of it into one; if these are two groups of one name, say so in the name",
            )
    raise_all(list(problems.values()))


def split_sizes(n: int, validation: float, test: float) -> tuple[int, int]:
    """Training and validation images of a class of `n`; each part with a share has one if there are enough."""
    n_test = max(0, min(max(1, round(test * n)), n - 2 if validation else n - 1)) if test else 0
    n_validation = min(max(1, round(validation * n)), n - n_test - 1) if validation else 0
    return n - n_test - n_validation, n_validation


def order_in(seed: int, holding: Holding, label: str, n: int) -> list[int]:
    """The order in which `n` pictures of a class of a holding are dealt."""
    own = derive(holding_seed(seed, holding), "split", label)
    return [int(i) for i in own.numpy().permutation(n)]


def holding_seed(seed: int, holding: Holding) -> Seed:
    """The seed of everything random about a holding."""
    return derive(seed, "folder", holding.domain, holding.client)


def _is_open(picture: Picture) -> bool:
    """Whether we may choose the picture's part."""
    return picture.part in (None, "train")


def _by_picture(holdings: Sequence[Holding], validation: float, test: float, seed: int) -> list[list[Part]]:
    found = []
    for holding in holdings:
        part: dict[Picture, Part] = {}
        for label, pictures in holding.by_class().items():
            n_train, n_validation = split_sizes(len(pictures), validation, test)
            for rank, i in enumerate(order_in(seed, holding, label, len(pictures))):
                part[pictures[i]] = PARTS[0 if rank < n_train else 1 if rank < n_train + n_validation else 2]
        found.append([part[picture] for picture in holding.pictures])
    return found


def _by_group(holdings: Sequence[Holding], validation: float, test: float, seed: int) -> list[list[Part]]:
    groups: dict[str, Counter[Cell]] = {}
    cells: dict[Cell, _Cell] = {}
    named: list[dict[Picture, str]] = []
    shares = {"train": 1.0 - validation - test, "validation": validation, "test": test}
    for position, holding in enumerate(holdings):
        named.append({})
        for label, pictures in holding.by_class().items():
            names = [_group(holding, picture, i) for i, picture in enumerate(pictures)]
            n_train, n_validation = split_sizes(len(pictures), validation, test)
            sizes = zip(PARTS, (n_train, n_validation, len(pictures) - n_train - n_validation), strict=True)
            cells[position, label] = _Cell(dict(sizes), len(set(names)), [p for p in PARTS if shares[p]])
            named[-1].update(zip(pictures, names, strict=True))
            for name in names:
                groups.setdefault(name, Counter())[position, label] += 1
    draw = {name: derive(seed, "group", name).value for name in groups}
    filled = {holding.domain: Counter[Part]() for holding in holdings}
    part: dict[str, Part] = {}

    def cost(each: Part, counts: Counter[Cell]) -> tuple[float, ...]:
        """Where a part would be left without a class, it comes first: training, else what its domain lacks most."""
        urgent = sum(each in cells[cell].urgent for cell in counts)
        lack = max(filled[holdings[position].domain][each] for position, _ in counts) / max(shares[each], 1e-9)
        change = sum(cells[cell].change(each, n) for cell, n in counts.items())
        return -urgent, urgent * (each != "train"), urgent * lack, change

    for name in sorted(groups, key=lambda name: (-groups[name].total(), draw[name])):
        counts = groups[name]
        part[name] = chosen = min(PARTS, key=lambda each: cost(each, counts))
        for cell, n in counts.items():
            cells[cell].take(chosen, n)
            filled[holdings[cell[0]].domain][chosen] += n
    _tell_gaps(holdings, cells)
    return [[part[name[p]] for p in holding.pictures] for holding, name in zip(holdings, named, strict=True)]


def _tell_gaps(holdings: Sequence[Holding], cells: Mapping[Cell, _Cell]) -> None:
    """Warn of classes that have no picture in a part."""
    gaps = [
        f"{holdings[position].place}, class {label!r} (for {' and '.join(empty)})"
        for (position, label), cell in cells.items()
        if (empty := cell.empty)
    ]
    if gaps:
        warnings.warn(
            f"{len(gaps)} classes have too few groups to be in each part of the split: {'; '.join(gaps[:SHOWN])}",
            DataWarning,
            stacklevel=5,
        )


def _group(holding: Holding, picture: Picture, position: int) -> str:
    """The picture's group; one without is a group of its own, by its position among those of its class."""
    own = f"{holding.domain}/{holding.client}/{picture.label}/{position}"
    return f"group {picture.group}" if picture.group else f"picture {own}"


@dataclass
class _Cell:
    """A class of a holding while its groups are put into parts.

    Attributes:
        wanted: pictures that each part should have.
        left: groups yet to come.
        parts: those that should have some.
        filled: pictures that each part has.
    """

    wanted: dict[Part, int]
    left: int
    parts: list[Part]
    filled: Counter[Part] = field(default_factory=Counter)

    @property
    def empty(self) -> list[Part]:
        """Parts that should have pictures and have none yet."""
        return [part for part in self.parts if not self.filled[part]]

    @property
    def urgent(self) -> list[Part]:
        """The empty parts, where no more groups are left than would fill them."""
        return self.empty if self.left <= len(self.empty) else []

    def change(self, part: Part, n: int) -> float:
        """By how much `n` more pictures in `part` change the square of its relative deviation from what is wanted."""
        wanted, filled = self.wanted[part], self.filled[part]
        return ((filled + n - wanted) ** 2 - (filled - wanted) ** 2) / max(wanted, 1) ** 2

    def take(self, part: Part, n: int) -> None:
        """Put `n` pictures of a group into `part`."""
        self.filled[part] += n
        self.left -= 1
