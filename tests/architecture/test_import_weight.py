"""What an import pulls in, measured in a fresh interpreter; modules are counted, not seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "tokenizers", "numpy", "scipy", "pydantic", "PIL", "jinja2", "matplotlib"}
PROTOCOL_SIDE = ["secfpp.crypto", "secfpp.protocol", "secfpp.secure", "secfpp.privacy"]


def loaded_by(code: str) -> set[str]:
    """Names of the top-level packages in ``sys.modules`` after running `code`."""
    report = "import sys; print('|'.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    ran = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split("|"))


def test_the_measurement_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_importing_the_package_is_light() -> None:
    loaded = loaded_by("import secfpp")
    assert "secfpp" in loaded
    assert loaded & (HEAVY | {"typer"}) == set()


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    assert loaded_by("from secfpp.cli import main") & HEAVY == set()


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = """
import contextlib, io, sys
from secfpp.cli import main
sys.argv = ["secfpp", "--help"]
shown = io.StringIO()
try:
    with contextlib.redirect_stdout(shown):
        main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "demo" in shown.getvalue(), shown.getvalue()
"""
    assert loaded_by(code) & HEAVY == set()


@pytest.mark.parametrize("package", PROTOCOL_SIDE)
def test_protocols_load_no_tensor_library(package: str) -> None:
    code = f"""
import importlib, pkgutil, {package} as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
    assert loaded_by(code) & {"torch", "transformers"} == set()
