"""Rules that hold for every source file, read from the syntax tree rather than trusted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "secfpp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400  # lines in a file
UNSAFE_LOADERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported(source: str) -> Iterator[str]:
    """Dotted names of everything a source text imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def attributes(source: str) -> Iterator[str]:
    """Dotted names read in a source text, such as ``np.random.default_rng``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def holds_secrets(path: Path) -> bool:
    """Whether the module makes or handles shares, masks or keys."""
    room, *_ = path.relative_to(PACKAGE).parts
    return room == "crypto" or (room == "secure" and re.search(r"shar|mask|key|channel", path.stem) is not None)


def seeded_randomness(source: str) -> list[str]:
    """Uses of reproducible randomness in a source text."""
    names = {"secfpp.seeding.derive", "secfpp.seeding.Seed", "random", "secfpp.seeding"}
    found = [name for name in imported(source) if name in names or name.startswith(("random.", "numpy.random"))]
    return found + [name for name in attributes(source) if re.match(r"(np|numpy|torch)\.(random|manual_seed)", name)]


def unsafe_loading(source: str) -> list[str]:
    """Ways a source text could run code while it reads data."""
    found = [name for name in imported(source) if name.split(".")[0] in UNSAFE_LOADERS]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            setting = (node.arg, node.value.value)
            if setting in {("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)}:
                found.append(f"{setting[0]}={setting[1]}")
    return found


def test_there_are_sources_to_check() -> None:
    assert PACKAGE / "protocol" / "program.py" in SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_stays_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST, f"{name_of(path)} has {lines} lines, at most {LONGEST} are allowed: split it"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_reads_data_that_can_run_code(path: Path) -> None:
    assert unsafe_loading(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_absolute_imports_only(path: Path) -> None:
    assert [name for name in imported(path.read_text()) if name.startswith(".")] == []


@pytest.mark.parametrize("path", [p for p in SOURCES if holds_secrets(p)], ids=name_of)
def test_shares_masks_and_keys_never_come_from_a_seed(path: Path) -> None:
    assert seeded_randomness(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib.numpy_pickle",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_unsafe_loading_is_recognised(source: str) -> None:
    assert unsafe_loading(source)


@pytest.mark.parametrize(
    "source",
    ["from secfpp.seeding import derive", "import random", "from numpy.random import default_rng", "np.random.rand(3)"],
)
def test_seeded_randomness_is_recognised(source: str) -> None:
    assert seeded_randomness(source)


def test_harmless_sources_are_let_through() -> None:
    source = "from secfpp.seeding import Entropy\nimport numpy as np\nnp.load(f, allow_pickle=False)\n"
    assert seeded_randomness(source) == unsafe_loading(source) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("crypto/field.py", True), ("secure/masks.py", True), ("secure/clustering.py", False), ("seeding.py", False)],
)
def test_which_modules_hold_secrets(name: str, expected: bool) -> None:
    assert holds_secrets(PACKAGE / name) is expected
