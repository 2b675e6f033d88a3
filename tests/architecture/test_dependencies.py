"""What the sources import is what the package declares, and what is declared is pinned."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGE = ROOT / "src" / "secfpp"
OPTIONAL = {
    PACKAGE / "deploy" / "flare": "flare",
    PACKAGE / "deploy" / "flower": "flower",
    PACKAGE / "deploy" / "processes.py": "flower",
    PACKAGE / "page": "page",
    PACKAGE / "cluster": "ray",
}
"""Folders and files that may import more, and the extras that declare it."""
PINS = {"constraints.txt": ("flare", "ray"), "constraints-flower.txt": ("flower",)}
"""Files with exact versions, and the extras that each is for beside what all need."""


def normal(requirement: str) -> str:
    """The normalised name of a distribution, without versions and comments."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement.strip())[0]).lower()


def third_party(folder: Path) -> dict[str, set[str]]:
    """Top-level names outside the standard library that the files under `folder` import, and where."""
    found: dict[str, set[str]] = {}
    for path in [folder] if folder.is_file() else folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(ROOT)))
    return {name: where for name, where in found.items() if name not in sys.stdlib_module_names and name != "secfpp"}


def undeclared(folder: Path, declared: list[str], own: set[str]) -> dict[str, set[str]]:
    """Imports under `folder` whose distribution is not among `declared`."""
    allowed, owners = {normal(requirement) for requirement in declared}, packages_distributions()
    return {
        name: where
        for name, where in third_party(folder).items()
        if name not in own and not {normal(owner) for owner in owners.get(name, [name])} & allowed
    }


def test_the_package_imports_declared_dependencies_only() -> None:
    found = undeclared(ROOT / "src", PROJECT["dependencies"], set())
    own = tuple(f"{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in OPTIONAL)
    elsewhere = {name: {path for path in where if not path.startswith(own)} for name, where in found.items()}
    assert {name: where for name, where in elsewhere.items() if where} == {}


@pytest.mark.parametrize("folder", OPTIONAL, ids=lambda folder: folder.name)
def test_what_an_extra_is_for_imports_what_it_declares(folder: Path) -> None:
    assert undeclared(folder, PROJECT["dependencies"] + EXTRAS[OPTIONAL[folder]], set()) == {}


def test_the_tests_import_declared_dependencies_only() -> None:
    own = {"contract", "support"} | {
        path.stem for folder in ("tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    }
    declared = PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["flare"] + EXTRAS["flower"] + EXTRAS["ray"]
    assert undeclared(ROOT / "tests", declared, own) == {}


def test_an_undeclared_import_is_noticed() -> None:
    assert "pytest" in undeclared(ROOT / "tests", PROJECT["dependencies"], {"support"})


@pytest.mark.parametrize("file", PINS)
def test_every_dependency_is_pinned_exactly_and_portably(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    pins = {normal(line): line for line in lines}
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)] == []
    declared = (
        PROJECT["dependencies"]
        + EXTRAS["test"]
        + EXTRAS["dev"]
        + [one for extra in PINS[file] for one in EXTRAS[extra]]
    )
    assert [name for name in map(normal, declared) if name not in pins] == []
