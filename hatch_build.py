"""Builds the compiled kernel of field arithmetic into the package; without a compiler the package does without."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/secfpp/crypto")


class KernelHook(BuildHookInterface):
    """Compiles ``kernel.c`` beside its source, from where wheels take it and editable installs use it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling's documentation of build hooks."""
        if self.target_name != "wheel":
            return
        for old in Path(self.root, FOLDER).glob("_kernel.*"):
            old.unlink()
        if compiled(Path(self.root)):
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform()}"
            build_data["artifacts"] += [f"{FOLDER}/_kernel.*"]
        else:
            self.app.display_warning(
                "secfpp: no working C compiler, so cryptographic arithmetic stays in numpy, which gives the same and "
                "is slower; install one (Debian: apt install gcc) and secfpp again to change that"
            )


def compiled(root: Path) -> bool:
    """Whether the kernel could be made."""
    from setuptools import Distribution, Extension

    optimise = "/O2" if os.name == "nt" else "-O3"
    extension = Extension(
        "secfpp.crypto._kernel", [str(FOLDER / "kernel.c")], py_limited_api=True, extra_compile_args=[optimise]
    )
    distribution = Distribution({"name": "secfpp", "package_dir": {"": "src"}, "ext_modules": [extension]})
    command: Any = distribution.get_command_obj("build_ext")
    with TemporaryDirectory() as room:
        command.inplace, command.build_temp, command.build_lib = True, room, room
        try:
            command.ensure_finalized()
            command.run()
        except Exception as error:  # whatever a compiler, or its absence, comes to
            print(f"secfpp: the kernel was not compiled: {type(error).__name__}: {error}")
            return False
    return any(Path(root, FOLDER).glob("_kernel.*"))


def platform() -> str:
    """This machine's platform as wheels name it."""
    from packaging.tags import sys_tags

    names = (tag.platform for tag in sys_tags())
    return next(name for name in names if not name.startswith(("manylinux", "musllinux")))
