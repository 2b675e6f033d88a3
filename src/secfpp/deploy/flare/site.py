"""The component at a site: passes bytes to the site's work in another process, and its replies back."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from secfpp.deploy.child import Child
from secfpp.deploy.flare.binding import SiteBinding
from secfpp.deploy.flare.marks import final, init, publish

_M_ARENA_MAX = -8
"""Of glibc's ``malloc.h``."""
_log = logging.getLogger(__name__)


class Relay:
    """Answers the server only; no setting comes from the job.

    Where the site's folder is says the kit on the site's own disk (`SiteBinding`). A reply of None means
    that the site has no answer: why is said in the site's own log and nowhere else. Work that died is started again
    with the next request.
    """

    opener: ClassVar[str] = "secfpp.deploy.site_process:open_site"
    """What makes the `secfpp.deploy.child.Site`, in the other process."""

    def __init__(self) -> None:
        # FLARE imports PyTorch into every worker that has it installed: 200 MB that a relay does not need.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
        _few_arenas()
        self._child: Child | None = None
        self._turn, self._folder = threading.Lock(), Path()
        self._identity: dict[str, Any] = {}

    @init
    def start(self, context: Any) -> None:
        """Read the binding, check the kit's certificate, start the work.

        Raises:
            DataError: there is no binding, or the certificate is not the one that was bound.
        """
        binding = SiteBinding.load(Path(context.workspace.get_root_dir()))
        self._identity = {"certificate": binding.certificate(), "signature": binding.signature}
        self._folder = binding.folder
        self._child = Child(self.opener, self._folder)

    @publish
    def identity(self, context: Any) -> dict[str, Any] | None:
        """The site's X.509 certificate (PEM bytes) and the signature that binds it to the roster (64 bytes)."""
        return self._identity if context.caller == "server" else None

    @publish
    def answer(self, message: bytes, patience: float, context: Any) -> bytes | None:
        """The reply to one request of the server.

        Args:
            message: the request.
            patience: seconds that it may wait for the end of an earlier one.
            context: the call's, by FLARE; says who calls.
        """
        try:
            if context.caller != "server" or (child := self._living()) is None:
                return None
            return child.ask(message, patience)
        except Exception as error:  # no text of an error may travel
            _log.warning("no answer: %s", type(error).__name__)
            return None

    @final
    def stop(self, context: Any) -> None:
        """End the work."""
        with self._turn:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def _living(self) -> Child | None:
        """The work, started again if it died; None before its start and after its end."""
        with self._turn:
            if self._child is not None and self._child.died:
                _log.warning("the site's work has died and is started again")
                self._child.close()
                self._child = Child(self.opener, self._folder)
            return self._child


def _few_arenas() -> None:
    """Have glibc share its memory among FLARE's many threads, instead of keeping some for each; elsewhere nothing."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
