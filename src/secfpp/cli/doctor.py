"""`secfpp doctor`: can this installation do its job, and if not, what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import typer

from secfpp.experiment.run.machine import free_memory, usable_cores

Status = Literal["ok", "warn", "fail"]
NEEDED_MEMORY = 2 * 2**30
"""Bytes of free memory below which the demo may not fit."""
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
REINSTALL = "install again: pip install --force-reinstall --no-deps secfpp"
PACKAGES = ("numpy", "scipy", "torch", "transformers", "tokenizers", "safetensors", "pydantic")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was found, and the remedy if it is not well."""

    what: str
    status: Status
    found: str
    remedy: str = ""


def doctor(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check versions, processor, memory, cache, embedded model and icon fonts; fails if something cannot work."""
    from secfpp.cli.output import print_json

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            typer.secho(
                f"{finding.status:<5}", nl=False, fg={"ok": "green", "warn": "yellow", "fail": "red"}[finding.status]
            )
            typer.echo(f"{finding.what:<14}{finding.found}")
            if finding.remedy:
                typer.echo(f"{'':<19}-> {finding.remedy}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """All findings, one by one; a check that breaks is itself a finding."""
    checks: dict[str, Callable[[], Finding]] = {
        "secfpp": _package,
        "python": _python,
        "packages": _packages,
        "arithmetic": _arithmetic,
        "cpu": _cpu,
        "memory": _memory,
        "device": _device,
        "compiling": _compiling,
        "cache": _cache,
        "icon fonts": _fonts,
        "mini model": _model,
    }
    for what, check in checks.items():
        try:
            yield check()
        except Exception as error:  # whatever is broken, the other lines still help
            yield Finding(
                what, "fail", f"{type(error).__name__}: {error}", "install again: pip install --force-reinstall secfpp"
            )


def _package() -> Finding:
    from secfpp import __version__
    from secfpp.experiment.results.run_directory import git_revision

    revision = git_revision()
    return Finding("secfpp", "ok", __version__ + (f", checkout {revision}" if revision else ""))


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("packages", "ok", ", ".join(found))


def _arithmetic() -> Finding:
    from secfpp.crypto.kernel import compiled, uses_vectors

    if compiled:
        return Finding("arithmetic", "ok", "on shares: compiled" + (", products by vectors" if uses_vectors() else ""))
    remedy = "install a C compiler (Debian: apt install gcc) and secfpp again; unset SECFPP_KERNEL if it is set"
    return Finding("arithmetic", "warn", "on shares: numpy, which gives the same and is slower", remedy)


def _cpu() -> Finding:
    import torch

    cores = usable_cores()
    threads = torch.get_num_threads()
    found = f"{cores} usable, {threads} threads by default"
    if threads > cores:
        return Finding("cpu", "warn", found, f"more threads than processors are slow: --threads {cores}")
    return Finding("cpu", "ok", found)


def _memory() -> Finding:
    free = free_memory()
    if free is None:
        return Finding("memory", "ok", "free memory is not known on this system")
    from secfpp.experiment.results.text import amount

    if free < NEEDED_MEMORY:
        return Finding("memory", "warn", f"{amount(free)} free", "close other programs: the demo needs up to 2 GiB")
    return Finding("memory", "ok", f"{amount(free)} free")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    return Finding("device", "ok", "cpu (no CUDA device; the embedded benchmark needs none)")


def _compiling() -> Finding:
    from secfpp.models.compiling import compile_problems

    problems = compile_problems("auto", "backbone.compile")
    found = f"cannot be had: {problems[0].allowed}" if problems else "backbone.compile = true can be set"
    return Finding("compiling", "ok", found)


def _cache() -> Finding:
    import tempfile

    from secfpp.cachedir import cache_root

    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        remedy = "name a directory you can write to: export SECFPP_CACHE=DIR"
        return Finding("cache", "fail", f"{root}: {error.strerror or error}", remedy)
    return Finding("cache", "ok", f"{root}, writable")


def _fonts() -> Finding:
    from secfpp.data.glyphs import font_folder
    from secfpp.errors import DataError

    try:
        return Finding("icon fonts", "ok", str(font_folder()))
    except DataError as error:
        return Finding("icon fonts", "fail", str(error), "pip install QtAwesome==1.4.2")


def _model() -> Finding:
    import numpy as np

    from secfpp.models.backbone import load_backbone

    backbone = load_backbone("mini", device="cpu")
    tokens = backbone.class_tokens(["search", "home"], 4)
    prompt = backbone.initial_prompt("an icon symbol for", 4)
    import torch

    features = backbone.class_features(torch.as_tensor(prompt)[None], tokens)
    if not np.isfinite(features.detach().numpy()).all():
        return Finding("mini model", "fail", "loads, but its features are not finite", REINSTALL)
    return Finding("mini model", "ok", f"loads and encodes text, digest {backbone.spec.digest[:12]}")
