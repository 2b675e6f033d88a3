"""The component at the server: a transport over FLARE's calls, and the run that uses it."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

from nvflare.collab.api.constants import FL_CONTEXT_PROP
from nvflare.collab.api.exceptions import RunAborted

from secfpp.crypto.roster import Roster
from secfpp.deploy.flare.binding import ServerBinding
from secfpp.deploy.flare.marks import main
from secfpp.deploy.identity import check_certificate, read_certificate
from secfpp.deploy.names import RESULTS, STATUS
from secfpp.deploy.runs import open_run
from secfpp.errors import SecFPPError

_IDENTITY_SECONDS = 60.0
_MARGIN = 1.0

_CALLS = "nvflare.collab.runtime.cell_dispatcher"
"""FLARE's log of calls: two lines for each, in four formats; more work than to carry the bytes."""

_log = logging.getLogger(__name__)


class FlareTransport:
    """Carries one request to each site and brings back the replies that come in time.

    Args:
        sites: FLARE's proxies of the sites by name.
    """

    def __init__(self, sites: Mapping[str, Any]) -> None:
        self._proxies = dict(sites)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that take part, in order."""
        return tuple(sorted(self._proxies))

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> dict[str, bytes]:
        """Ask sites, each its own request, all at the same time.

        Args:
            messages: site to request.
            deadline: seconds from now after which no reply counts.

        Returns:
            The replies in time; a site that failed, died or was late is absent.

        Raises:
            KeyError: a site that does not take part.
            RunAborted: the job was ended from outside.
        """
        replies = self.call(
            "answer",
            {site: {"message": bytes(message), "patience": deadline} for site, message in messages.items()},
            deadline,
        )
        return {site: reply for site, reply in replies.items() if isinstance(reply, bytes)}

    def call(self, method: str, arguments: Mapping[str, Mapping[str, Any]], deadline: float) -> dict[str, Any]:
        """What a published method of each site returned within `deadline` seconds; errors are absent."""
        until = time.monotonic() + deadline
        found: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        for site, given in arguments.items():
            ask = getattr(self._proxies[site](timeout=deadline + _MARGIN), method)
            threading.Thread(target=_ask, args=(site, ask, dict(given), found), daemon=True).start()
        replies: dict[str, Any] = {}
        for _ in arguments:
            try:
                site, reply = found.get(timeout=max(until - time.monotonic(), 0.0))
            except Empty:
                break
            if isinstance(reply, RunAborted):
                raise reply
            if isinstance(reply, Exception):
                _log.warning("site %r gave no reply: %s", site, type(reply).__name__)
            else:
                replies[site] = reply
        return replies


def _ask(site: str, ask: Any, given: dict[str, Any], found: SimpleQueue[tuple[str, Any]]) -> None:
    try:
        found.put((site, ask(**given)))
    except Exception as error:
        found.put((site, error))


class Server:
    """Opens the run's folder, checks who takes part, runs the program, keeps its results with the job.

    Args:
        run: the run's name, a plain file name.
        agreed: what all sites agreed to, TOML as UTF-8 in base64; FLARE would change braces in plain text.
        resume: go on with the run that is there; otherwise there must be none.
    """

    program: ClassVar[str] = "secfpp.deploy.server_process:serve"
    """What is run: a function of the transport and the run's folder that returns an exit status."""

    def __init__(self, run: str, agreed: str, resume: bool = False) -> None:
        self.run, self.agreed, self.resume = run, agreed, resume

    @main
    def serve(self, context: Any) -> int:
        """The exit status of the program, 0 for success.

        Raises:
            RuntimeError: another exit status, so that FLARE counts the job as failed.
        """
        logging.getLogger(_CALLS).setLevel(logging.WARNING)
        job = Path(context.workspace.get_run_dir(context.app.get_prop(FL_CONTEXT_PROP).get_job_id()))
        try:
            binding = ServerBinding.load(Path(context.workspace.get_root_dir()))
            folder = open_run(binding.folder, self.run, b64decode(self.agreed, validate=True), self.resume)
            proxies = {proxy.name: proxy for proxy in context.clients}
            transport = FlareTransport({site: proxies[site] for site in _identified(proxies, binding)})
            status = int(resolve_name(self.program)(transport, folder))
        except SecFPPError as error:
            _write_status(job, 1, str(error))
            raise
        if (folder / RESULTS).exists():
            shutil.copytree(folder / RESULTS, job / RESULTS, dirs_exist_ok=True)
        _write_status(job, status, "")
        if status:
            raise RuntimeError(f"the run ended with status {status}")
        return status


def _identified(proxies: Mapping[str, Any], binding: ServerBinding) -> list[str]:
    """The sites whose certificate is bound to the roster; the server's log says why another is left out."""
    roster = Roster.load(binding.roster)
    authority = read_certificate((binding.kit / "startup" / "rootCA.pem").read_bytes())
    told = FlareTransport(proxies).call("identity", {site: {} for site in proxies}, _IDENTITY_SECONDS)
    known = []
    for site in proxies:
        try:
            check_certificate(told[site]["certificate"], told[site]["signature"], site, roster, authority)
        except (KeyError, TypeError):
            _log.error("site %r is left out: it does not say who it is", site)
        except SecFPPError as error:
            _log.error("site %r is left out: %s", site, error)
        else:
            known.append(site)
    return known


def _write_status(job: Path, status: int, why: str) -> None:
    (job / STATUS).write_text(json.dumps({"status": status, "why": why}), encoding="utf-8")
