"""A startup kit of FLARE made fit for SecFPP: what it may run, where our folder is, what leaves no more.

Only files under ``local`` of a kit are written; what provisioning signed stays as it is.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.identity import certificate_digest, read_certificate, sign_certificate
from secfpp.errors import ConfigError, DataError
from secfpp.storage import atomic_write

CONTROLLER = "nvflare.collab.runtime.controller.CollabController"
EXECUTOR = "nvflare.collab.runtime.executor.CollabExecutor"
SERVER = "secfpp.deploy.flare.server.Server"
RELAY = "secfpp.deploy.flare.site.Relay"
SCHEME = "tcp"
OUTCOME_WAIT = {"NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": "20"}
"""For the server's environment: how many seconds a job that is done waits for sites that died. FLARE's own 900 keep
its results back for so long; no file of a kit can say it."""

_FILE = "secfpp.json"
_RIGHTS = ("submit_job", "clone_job", "manage_job", "download_job", "view", "operate", "shell_commands", "byoc")
_SITE_RIGHTS = {"submit_job", "manage_job"}
_SERVER_RIGHTS = _SITE_RIGHTS | {"download_job", "operate", "view"}


@dataclass(frozen=True)
class SiteBinding:
    """What a site's kit knows of SecFPP.

    Attributes:
        kit: the kit's folder.
        folder: the site's own folder.
        name: the site.
        digest: SHA-256 of its certificate, hexadecimal.
        signature: that this certificate is the site's, see `secfpp.deploy.identity`.
    """

    kit: Path
    folder: Path
    name: str
    digest: str
    signature: bytes

    @classmethod
    def load(cls, kit: Path) -> SiteBinding:
        """The binding of a kit.

        Raises:
            DataError: the kit is not bound, or its binding is damaged.
        """
        about = _read_binding(kit, "secfpp site flare DIR --kit KIT")
        try:
            signature = b64decode(about["signature"], validate=True)
            return cls(kit, Path(about["folder"]), str(about["name"]), str(about["certificate"]), signature)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(kit, "secfpp site flare DIR --kit KIT") from error

    def certificate(self) -> bytes:
        """The kit's certificate, PEM.

        Raises:
            DataError: it is not the one that was bound.
        """
        pem = _read(self.kit / "startup" / "client.crt")
        if certificate_digest(read_certificate(pem)).hex() != self.digest:
            raise DataError(f"{self.kit} has another certificate than was bound: run secfpp site flare again")
        return pem


@dataclass(frozen=True)
class ServerBinding:
    """What the server's kit knows of SecFPP.

    Attributes:
        kit: the kit's folder.
        folder: where runs are kept.
        roster: the roster's file.
    """

    kit: Path
    folder: Path
    roster: Path

    @classmethod
    def load(cls, kit: Path) -> ServerBinding:
        """The binding of a kit.

        Raises:
            DataError: the kit is not bound, or its binding is damaged.
        """
        about = _read_binding(kit, "secfpp serve flare-kit DIR --kit KIT --roster FILE")
        try:
            return cls(kit, Path(about["folder"]), Path(about["roster"]))
        except (KeyError, TypeError) as error:
            raise _damaged(kit, "secfpp serve flare-kit DIR --kit KIT --roster FILE") from error


def bind_site(
    folder: Path, kit: Path, name: str, key: IdentityKey, roster: Roster, component: str = RELAY
) -> SiteBinding:
    """Make a client's kit run the site in `folder`, and nothing else.

    The kit then runs two classes only, takes no code, streams no logs, and lets administrators start and end jobs only.

    Args:
        folder: the site's folder.
        kit: the client's startup kit.
        name: the site's name in the roster.
        key: the site's identity.
        roster: the run's roster.
        component: the class that passes requests on.

    Raises:
        ConfigError: the kit is another name's, or key and roster do not fit.
        DataError: no client's kit, or one that cannot be written.
    """
    _require_tcp(kit, "fed_client.json", "servers")
    certificate = read_certificate(_read(kit / "startup" / "client.crt"))
    signature = sign_certificate(certificate, name, key, roster)
    about = {"folder": str(folder.absolute()), "name": name, "certificate": certificate_digest(certificate).hex()}
    resources = {**_resources(kit), "allow_log_streaming": False, **_only(EXECUTOR, component)}
    _write_local(kit, resources, _SITE_RIGHTS, {**about, "signature": b64encode(signature).decode()})
    return SiteBinding.load(kit)


def bind_server(folder: Path, kit: Path, roster: Path, component: str = SERVER) -> ServerBinding:
    """Make a server's kit run our server, and nothing else; its jobs are kept in the kit, one runs at a time.

    Args:
        folder: where runs are kept.
        kit: the server's startup kit.
        roster: the roster's file.
        component: the class that asks the sites.

    Raises:
        DataError: no server's kit, one that cannot be written, or no roster.
    """
    _require_tcp(kit, "fed_server.json", "servers")
    Roster.load(roster)
    resources = {**_resources(kit), **_only(CONTROLLER, component)}
    storage = {"path": "nvflare.app_common.storages.filesystem_storage.FilesystemStorage"}
    snapshots = {**storage, "args": {"root_dir": str(kit.absolute() / "snapshots"), "uri_root": "/"}}
    resources["snapshot_persistor"] = {
        "path": "nvflare.app_common.state_persistors.storage_state_persistor.StorageStatePersistor",
        "args": {"uri_root": "/", "storage": snapshots},
    }
    changed = {
        "job_scheduler": {"max_jobs": 1, "min_schedule_interval": 2.0},  # two jobs would share the sites' folders
        "job_manager": {"uri_root": str(kit.absolute() / "jobs"), "job_store_id": "job_store"},
    }
    kept = [part for part in resources.get("components", []) if part.get("id") != "log_receiver"]
    resources["components"] = [{**part, "args": changed.get(part["id"], part.get("args", {}))} for part in kept]
    about = {"folder": str(folder.absolute()), "roster": str(roster.absolute())}
    _write_local(kit, resources, _SERVER_RIGHTS, about)
    return ServerBinding.load(kit)


def _only(*classes: str) -> dict[str, object]:
    return {"class_list_enforcement_mode": "enforce", "class_allow_list": list(classes)}


def _write_local(kit: Path, resources: Mapping[str, Any], rights: set[str], about: Mapping[str, Any]) -> None:
    """Write all local files of a kit: resources, rights, the settings of connections and our own."""
    granted = {right: "any" if right in rights else "none" for right in _RIGHTS}
    seen = {"view": granted["view"]}
    permissions = {"project_admin": granted, "lead": granted, "org_admin": seen, "member": seen}
    files: dict[str, Mapping[str, Any]] = {
        "resources.json": resources,
        "authorization.json": {"format_version": "1.0", "permissions": permissions},
        "comm_config.json": {**_json(kit / "local" / "comm_config.json", {}), "streaming_retry_timeout": 5},
        _FILE: about,
    }
    for name, content in files.items():
        path = kit / "local" / name
        try:
            atomic_write(path, f"{json.dumps(content, indent=2)}\n".encode())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error


def _require_tcp(kit: Path, startup: str, part: str) -> None:
    """Refuse a folder that is no kit of this kind, and a kit of a slower transport."""
    about = _json(kit / "startup" / startup)
    try:
        scheme = about[part][0]["service"]["scheme"]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{kit / 'startup' / startup} names no server: take the kit as it was provisioned") from error
    if scheme != SCHEME:
        raise ConfigError(
            f"the kit {kit} uses the scheme {scheme!r}: provision all kits, the administrator's too, with "
            f"'scheme: {SCHEME}' under StaticFileBuilder in project.yml"
        )


def _resources(kit: Path) -> dict[str, Any]:
    return _json(kit / "local" / "resources.json.default")


def _read_binding(kit: Path, command: str) -> dict[str, Any]:
    path = kit / "local" / _FILE
    if not path.exists():
        raise DataError(f"the kit {kit} is not bound to a folder yet: {command}")
    return _json(path)


def _damaged(kit: Path, command: str) -> DataError:
    return DataError(f"{kit / 'local' / _FILE} is damaged; write it again with: {command}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. A startup kit of FLARE is needed") from error


def _json(path: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    if otherwise is not None and not path.exists():
        return otherwise
    try:
        found = json.loads(_read(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: take the kit as it was provisioned") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no settings: take the kit as it was provisioned")
    return found
