"""Sites as processes of this machine, without an engine: to rehearse a run, and to test what engines must do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from secfpp.deploy.child import Child, NoAnswerError
from secfpp.protocol.program import ClientId

_log = logging.getLogger(__name__)


class ChildrenTransport:
    """A `secfpp.runtime.remote.Transport` to sites that are child processes; a context manager that ends them.

    Args:
        folders: site to its folder.
        opener: ``module:function`` that makes a site, see `Child`.
    """

    def __init__(self, folders: Mapping[ClientId, Path], opener: str = "secfpp.deploy.site_process:open_site") -> None:
        self._folders, self._opener = dict(sorted(folders.items())), opener
        self.children = {client: Child(opener, folder) for client, folder in self._folders.items()}

    def __enter__(self) -> ChildrenTransport:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def sites(self) -> tuple[ClientId, ...]:
        """See `Transport.sites`."""
        return tuple(self._folders)

    def start(self, site: ClientId) -> None:
        """Start a site again, after the end of its process."""
        self.children[site].close()
        self.children[site] = Child(self._opener, self._folders[site])

    def exchange(self, messages: Mapping[ClientId, bytes], deadline: float) -> Mapping[ClientId, bytes]:
        """See `Transport.exchange`."""
        until, found = time.monotonic() + deadline, SimpleQueue[tuple[ClientId, bytes | None]]()
        for site, message in messages.items():
            threading.Thread(target=self._ask, args=(site, message, deadline, found), daemon=True).start()
        replies: dict[ClientId, bytes] = {}
        for _ in messages:
            try:
                site, reply = found.get(timeout=max(until - time.monotonic(), 0.0))
            except Empty:
                break
            if reply is not None:
                replies[site] = reply
        return replies

    def _ask(
        self, site: ClientId, message: bytes, patience: float, found: SimpleQueue[tuple[ClientId, bytes | None]]
    ) -> None:
        try:
            found.put((site, self.children[site].ask(message, patience)))
        except NoAnswerError as error:
            _log.warning("%s: %s", site, error)
            found.put((site, None))

    def close(self) -> None:
        """End all of them."""
        for child in self.children.values():
            child.close()
