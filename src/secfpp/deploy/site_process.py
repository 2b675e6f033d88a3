"""A site's work, whatever engine brings the requests: checks what is asked, trains, keeps its log."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from secfpp.algorithms.figures import NAMES
from secfpp.algorithms.training import ClientContext
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.child import GRACE
from secfpp.deploy.site_folder import SiteFolder
from secfpp.errors import ConfigError, SecFPPError
from secfpp.protocol.program import ClientState
from secfpp.runtime.site import Handled, Refused, Run, Site

_log = logging.getLogger(__name__)
ENGINE = "the engine's server"
"""Who asks, in a site's log: engines let nobody else through."""
PATIENCE = 2 * GRACE
"""Seconds that a site waits at most until an earlier process for it has ended."""
OTHERS = "not-agreed"
"""The log of requests that are of no run which this site agreed to."""


def open_site(folder: Path) -> OpenSite:
    """The site in `folder`, ready for requests.

    What is left of an engine that was killed may hold the folder a little longer, and is waited for.

    Raises:
        ConfigError: settings that cannot work, or another process goes on answering for this site.
        DataError: no site.
    """
    return OpenSite(SiteFolder(folder), PATIENCE)


class OpenSite:
    """Answers requests about the run that the site agreed to, and refuses all others.

    What a site agreed to is read again whenever a run is opened; data and model are loaded once.

    Args:
        folder: the site's.
        patience: seconds to wait at most for the end of another process that answers for the site.
    """

    def __init__(self, folder: SiteFolder, patience: float = 0.0) -> None:
        self.folder = folder
        self._site = Site(folder.name, self._enter, self._note)
        self._run = OTHERS
        self._held = ExitStack()
        self._held.enter_context(folder.in_use(patience))

    def handle(self, message: bytes) -> bytes:
        """The reply to a request; never raises."""
        return self._site.handle(message)

    def close(self) -> None:
        """Let another process answer for this site."""
        self._held.close()

    def _enter(self, about: Any) -> Run:
        agreed = self._agreed(about)
        try:
            context = self.folder.context(agreed)
            store = self.folder.store(agreed)
            agreed.algorithm.prepare(len(self.folder.roster().keys), len(agreed.classes), agreed.seed)
        except SecFPPError as error:
            raise Refused("failed", str(error), type(error).__name__) from error

        def own_figures(state: ClientState) -> list[float]:
            told = self.folder.write_prompt(agreed, context, state)
            return [math.nan if told[name] is None else told[name] / 100 for name in NAMES]

        def finished(state: ClientState) -> Mapping[str, Any]:
            return self._finish(agreed, context, state)

        measuring = replace(context, figures=own_figures) if agreed.figures == "mean" else context
        return Run(agreed.algorithm, measuring, store, {"weight": context.weight}, finished)

    def _agreed(self, about: Any) -> Agreed:
        """What the site agreed to, if it is what the server asks for and is still allowed."""
        asked = about if isinstance(about, Mapping) else {}
        self._run = OTHERS
        try:
            agreed, roster = self.folder.agreed(), self.folder.roster()
            agreed.require_roster(roster)
            forbidden = self.folder.problems(agreed, roster)
            if asked.get("digest") == agreed.digest:
                self._run = agreed.run
        except SecFPPError as error:
            raise Refused("failed", str(error), type(error).__name__) from error
        finally:
            said = {name: str(asked.get(name, ""))[:100] for name in ("run", "digest")}
            self.folder.log(self._run).opened(said, ENGINE)
        if asked.get("digest") != agreed.digest:
            table = asked.get("agreed")
            keys = agreed.differences(table) if isinstance(table, Mapping) else []
            told = keys or ["the version of secfpp"]
            raise Refused("disagrees", f"asked for a run that differs from the agreed one in {', '.join(told)}", told)
        if forbidden:
            raise Refused("forbidden", str(ConfigError(forbidden)), [problem.key for problem in forbidden])
        return agreed

    def _finish(self, agreed: Agreed, context: ClientContext, state: ClientState) -> Mapping[str, Any]:
        figures = self.folder.write_prompt(agreed, context, state)
        self.folder.log(self._run).note(f"the prompt is written; test accuracy {figures['test']}")
        return self.folder.told(figures)

    def _note(self, handled: Handled) -> None:
        if handled.error is not None:
            _log.warning("%s refuses a request: %s", self.folder.name, handled.reply.refused)
        self.folder.log(self._run).handled(handled, ENGINE)
