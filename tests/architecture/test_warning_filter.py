"""The warning filter of pyproject.toml: ours fail a test, a dependency's do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = """
import warnings

def test_it():
    warnings.warn_explicit("look", DeprecationWarning, "anywhere.py", 1, module="{module}")
"""


@pytest.mark.parametrize(
    ("module", "fails"),
    [
        ("secfpp.data.icons", True),
        ("secfpp", True),
        ("test_icons", True),
        ("support.fakes", True),
        ("numpy.linalg", False),
        ("transformers.models.clip", False),
    ],
)
def test_whose_warnings_are_errors(module: str, fails: bool, tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(TEST.format(module=module))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == (1 if fails else 0), ran.stdout + ran.stderr
    assert ("1 failed" if fails else "1 passed, 1 warning") in ran.stdout
