"""A job of three JSON files: written, submitted, followed to its end, its results fetched. No code is in it."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secfpp.deploy.flare.binding import CONTROLLER, EXECUTOR, RELAY, SERVER
from secfpp.deploy.names import RESULTS, STATUS, plain_name
from secfpp.errors import ConfigError, DataError, MissingExtraError, SecFPPError

_APP = "app"
_COMPONENT = "secfpp"
_POLL = 1.0


class JobError(SecFPPError):
    """A job that FLARE refused, lost or ended without a result."""


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: FLARE's name of it.
        status: the exit status that our server left, 0 for success; 1 if it left none.
        why: what went wrong, "" if nothing did.
        engine: FLARE's own status of the job; where sites died near its end, it may call a whole run abnormal.
    """

    job: str
    status: int
    why: str
    engine: str


def write_job(
    folder: Path,
    run: str,
    agreed: bytes,
    sites: Sequence[str],
    *,
    least: int,
    resume: bool = False,
    server: str = SERVER,
    relay: str = RELAY,
) -> Path:
    """Write a job into `folder`, which must be empty or absent.

    Args:
        folder: where.
        run: the run's name, a plain file name.
        agreed: what all sites agreed to, UTF-8.
        sites: names of the sites that may take part.
        least: how many of them must be connected when the job starts.
        resume: go on with the run of that name at the server.
        server: the server's component class.
        relay: the sites' component class.

    Raises:
        ConfigError: no sites, more needed than there are, a folder with files in it, or no plain name.
    """
    if not 1 <= least <= len(set(sites)) or len(set(sites)) != len(sites):
        raise ConfigError(f"least = {least!r}: from 1 to the number of different sites, which is {len(set(sites))}")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: a job is written into a folder of its own")
    settings = {"run": plain_name(run), "agreed": b64encode(agreed).decode(), "resume": resume}
    none: dict[str, Any] = {"task_data_filters": [], "task_result_filters": []}
    files: dict[str, Mapping[str, Any]] = {
        "meta.json": {
            "name": run,
            "resource_spec": {},
            "deploy_map": {_APP: ["server", *sites]},
            "min_clients": least,
        },
        f"{_APP}/config/config_fed_server.json": {
            "format_version": 2,
            "workflows": [{"id": "controller", "path": CONTROLLER, "args": {"server_obj_id": _COMPONENT}}],
            "components": [{"id": _COMPONENT, "path": server, "args": settings}],
            **none,
        },
        f"{_APP}/config/config_fed_client.json": {
            "format_version": 2,
            "executors": [{"tasks": ["*"], "executor": {"path": EXECUTOR, "args": {"client_obj_id": _COMPONENT}}}],
            "components": [{"id": _COMPONENT, "path": relay, "args": {}}],
            **none,
        },
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{json.dumps(content, indent=2)}\n", encoding="utf-8")
    return folder


@contextmanager
def session(kit: Path, patience: float = 30.0) -> Iterator[Any]:
    """A connection to the server with an administrator's kit: FLARE's `Session`.

    Raises:
        MissingExtraError: FLARE is not installed.
        DataError: no administrator's kit.
        JobError: no server answers within `patience` seconds.
    """
    try:
        from nvflare.fuel.flare_api.flare_api import new_secure_session
    except ImportError as error:
        raise MissingExtraError("secfpp serve flare", "flare") from error
    try:
        user = json.loads((kit / "startup" / "fed_admin.json").read_bytes())["admin"]["username"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{kit} is no administrator's kit: it has no startup/fed_admin.json with a user name"
        ) from error
    try:
        with redirect_stdout(io.StringIO()):  # it prints
            opened = new_secure_session(user, str(kit.absolute()), timeout=patience)
    except Exception as error:  # of many kinds, none documented
        raise JobError(f"no FLARE server answers {user!r}: is it running, and is the kit of its project?") from error
    try:
        yield opened
    finally:
        with suppress(Exception):
            opened.close()


def submit(opened: Any, job: Path) -> str:
    """Hand a job in; FLARE's name of it.

    Raises:
        JobError: the server refused it.
    """
    try:
        return str(opened.submit_job(str(job.absolute())))
    except Exception as error:
        raise JobError(f"the server refused the job {job}: {error}") from error


def follow(opened: Any, job: str, patience: float, told: Callable[[str], None] | None = None) -> tuple[str, list[str]]:
    """Wait for the end of a job; FLARE's last word on it, such as ``FINISHED:COMPLETED``, and what each party said.

    Args:
        opened: a `session`.
        job: its name.
        patience: seconds to wait at most; the job is aborted then.
        told: called with each new status.

    Raises:
        JobError: it took longer, or the server is gone.
    """
    until, before = time.monotonic() + patience, ""
    while time.monotonic() < until:
        try:
            about = opened.get_job_meta(job)
            status = str(about["status"])
        except Exception as error:
            raise JobError(
                f"the server no longer tells about job {job}: {type(error).__name__}. Go on with --resume "
                "when it is back"
            ) from error
        if status != before and told is not None:
            told(status)
        if status.startswith("FINISHED"):
            return status, [str(line) for line in about.get("job_deploy_detail", [])]
        before = status
        time.sleep(_POLL)
    with suppress(Exception):
        opened.abort_job(job)
    raise JobError(f"job {job} took longer than {patience:g} s and was aborted")


def fetch(opened: Any, job: str, out: Path) -> tuple[int, str]:
    """Copy the results of a job that has ended to `out`; its exit status and what our server says of it.

    Raises:
        JobError: they cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as room:
        try:
            found = Path(opened.download_job_result(job, room))
        except Exception as error:
            raise JobError(f"the results of job {job} cannot be fetched: {error}") from error
        workspace = found / "workspace"
        if (workspace / RESULTS).is_dir():
            shutil.copytree(workspace / RESULTS, out, dirs_exist_ok=True)
        try:
            about = json.loads((workspace / STATUS).read_bytes())
            return int(about["status"]), str(about["why"])
        except (OSError, ValueError, KeyError, TypeError):
            return 1, ""


def run_job(kit: Path, job: Path, out: Path, patience: float, told: Callable[[str], None] | None = None) -> Ended:
    """Submit a job, wait for its end, fetch its results to `out`.

    Args:
        kit: an administrator's startup kit.
        job: a folder by `write_job`.
        out: where the results go.
        patience: seconds that it may take.
        told: called with each new status.

    Raises:
        DataError, JobError, MissingExtraError: as `session`, `submit`, `follow` and `fetch` say.
    """
    with session(kit) as opened:
        name = submit(opened, job)
        engine, said = follow(opened, name, patience, told)
        status, why = fetch(opened, name, out)
    if status and not why:
        why = f"FLARE ended the job as {engine}: {'; '.join(said) or 'it said no more'}"
    return Ended(name, status, why, engine)
