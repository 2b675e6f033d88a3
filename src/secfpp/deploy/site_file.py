"""A site's own settings: ``site.toml``, written with remarks that a data-protection officer can read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from secfpp.deploy.limits import Limits
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.spec.config import BackboneSettings
from secfpp.experiment.spec.schema import build, check, one_of
from secfpp.images import MEMORY_GIB
from secfpp.storage import atomic_write


@dataclass(frozen=True, kw_only=True)
class SiteData:
    """Where this site's images are; one of `folder`, `table` and `dataset`. Paths are relative to the site's folder.

    Attributes:
        folder: a folder of CLASS/IMAGE, or of train, val and test with CLASS/IMAGE in each.
        table: a table with a row for each image, see `secfpp.data.tables`.
        root: the folder that paths in the table are relative to; the table's own if empty.
        dataset: name of a data set of simulated clients, of whom this site plays the one of its name; to rehearse.
        settings: of that data set.
        validation: share of each class's images for validation, where no split is given.
        test: share of each class's images for the test, where no split is given.
        shots: most training images of a class; 0 is all.
        memory_gib: most memory for them.
    """

    folder: str = ""
    table: str = ""
    root: str = ""
    dataset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: float = 0.2
    test: float = 0.2
    shots: Annotated[int, Ge(0)] = 0
    memory_gib: float = MEMORY_GIB

    def __post_init__(self) -> None:
        given = [name for name in ("folder", "table", "dataset") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError([Problem("data", given, "one of folder, table and dataset")])


@dataclass(frozen=True)
class SiteFile:
    """The content of ``site.toml``.

    Attributes:
        name: of the client that this site is.
        data: where its images are.
        backbone: the model, and how it computes here.
        limits: what is allowed.
        text: the file, for the numbers of its lines.
    """

    name: str
    data: SiteData
    backbone: BackboneSettings
    limits: Limits
    text: str = ""

    @classmethod
    def load(cls, path: Path) -> SiteFile:
        """The file at `path`; limits that are left out have their defaults, which are strict.

        Raises:
            DataError: no such file.
            ConfigError: no TOML, or values that cannot work, all of them.
        """
        try:
            text = path.read_text(encoding="utf-8")
            table = tomllib.loads(text)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Make a site with: secfpp site init DIR") from error
        except ValueError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        kinds = {"data": SiteData, "backbone": BackboneSettings, "limits": Limits}
        known, problems = ("name", *kinds), list[Problem]()
        problems += [Problem(key, table[key], one_of(key, known, "key")) for key in table if key not in known]
        problems += [
            Problem(key, None, "is required and was not given") for key in ("name", "data") if key not in table
        ]
        name = check(str, table.get("name", ""), "name", problems)
        parts = {key: build(kind, table.get(key, {}), key, problems) for key, kind in kinds.items() if key in table}
        if problems:
            raise ConfigError([Problem(f"{path.name}: {p.key}", p.value, p.allowed) for p in problems])
        return cls(name, parts["data"], parts.get("backbone", BackboneSettings()), parts.get("limits", Limits()), text)


def write_site_file(path: Path, name: str, data: SiteData, backbone: str) -> None:
    """Write a ``site.toml`` with strict limits and remarks on each line.

    Raises:
        ConfigError: there is one already.
        DataError: it cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{path} exists: change it with an editor, or choose another folder")
    try:
        atomic_write(path, site_text(name, data, backbone).encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}. Choose another folder") from error


def site_text(name: str, data: SiteData, backbone: str) -> str:
    """The content of a new ``site.toml``."""
    limits = Limits()
    kind = next(kind for kind in ("folder", "table", "dataset") if getattr(data, kind))
    values = {
        "name": name,
        "kind": kind,
        "place": getattr(data, kind),
        "root": data.root,
        "backbone": backbone,
        "validation": data.validation,
        "test": data.test,
        **{key: getattr(limits, key) for key in Limits.__dataclass_fields__},
    }
    quoted = {key: _toml(value) for key, value in values.items()} | {"kind": kind}
    text = _TEXT.format(**quoted)
    if not data.root:
        text = "".join(line for line in text.splitlines(True) if not line.startswith("root = "))
    if data.settings:
        text = text.replace("\n[backbone]", f"settings = {_toml(dict(data.settings))}\n\n[backbone]")
    return text


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return '"none"' if value is None else json.dumps(value, ensure_ascii=False)


_TEXT = """\
# This site: who it is, where its images are, and what it allows.
# Only this site reads the file. It is sent to nobody.

# The name that all parties of a run use for this site.
name = {name}

[data]
# Images are read here, at the size that was agreed on, and stay here.
{kind} = {place}
root = {root}
# Shares of each class that are kept for validation and for the test, where the images are not split already.
validation = {validation}
test = {test}

[backbone]
# The model: "mini", a folder with a checkpoint, or a name on the Hugging Face hub. Its content is compared by a hash
# with what was agreed on.
name = {backbone}
device = "cpu"
threads = 1

[limits]
# What the server may ask of this site. A run that asks for more is refused, with the number of the line.

# Methods that may be run here.
methods = {methods}
# At least so many sites take part in every round.
fewest_sites = {fewest_sites}
# An average is of at least so many sites. Nobody sees the contribution of one site.
smallest_group = {smallest_group}
# So many other sites may join the server and share all they know: they learn no more than the server may.
least_colluding = {least_colluding}
# One site makes up at most this share of an average.
largest_weight = {largest_weight}
# A run has at most so many rounds.
most_rounds = {most_rounds}
# Whether the server may see what this site alone contributes. true is for tests with public images.
in_the_clear = {in_the_clear}
# Whether groups and polls must be of security = "active": sites verify with each other what the server tells them.
active_security = {active_security}
# Whether sums of image features, for each class, go into averages with other sites.
class_sums = {class_sums}
# The sums of a class are shared only if at least so many sites have images of it.
fewest_holders = {fewest_holders}
# Differential privacy. "none" asks for none. With a number, every run must give it, and all runs at this site together
# cost at most this epsilon.
epsilon = {epsilon}
# Whether accuracies on this site's images go into a mean with other sites, which the server is told.
average_metrics = {average_metrics}
# Whether the server is told how accurate the result is on this site's images, and how many these are.
tell_metrics = {tell_metrics}
"""
