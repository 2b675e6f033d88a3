"""What a site answers to Flower's messages: bytes of the site's warm process.

A reply without data means that the site has no answer: why is said in the site's own log and nowhere else.

`app` is for a SuperNode that starts a process for every message, so nothing here may be slow to import. Such a node
runs whatever code a run brings along; one with a `secfpp.deploy.flower.relay` runs none of it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from secfpp.deploy.child import NoAnswerError
from secfpp.deploy.flower.names import ANSWER, PRESENT, RECORD
from secfpp.deploy.site_socket import ask_signature, ask_site

_log = logging.getLogger(__name__)


def reply_to(message: Message, folder: Path, name: str) -> Message:
    """The reply of a site to a message of the server; never raises.

    Args:
        message: a request, of type `ANSWER`; the reply's ``data`` is that of the site. Or a challenge, of type
            `PRESENT`; the reply holds the site's ``name``, and its signature as ``data``.
        folder: the site's folder, which `secfpp.deploy.site_socket.serve_socket` serves.
        name: the site.
    """
    told: dict[str, Any] = {}
    try:
        about: dict[str, Any] = dict(message.content[RECORD])
        kind, data, patience = message.metadata.message_type, bytes(about["data"]), float(about["patience"])
        if kind == ANSWER:
            told = {"data": ask_site(folder, data, patience)}
        elif kind == PRESENT:
            told = {"data": ask_signature(folder, data, patience), "name": name}
    except NoAnswerError as error:
        _log.warning("%s: no answer: %s", name, error)
    except Exception as error:  # no text of an error may travel
        _log.warning("%s: no answer: %s", name, type(error).__name__)
    return Message(RecordDict({RECORD: ConfigRecord(told)}), reply_to=message)


def client_app() -> ClientApp:
    """The app. Where the site's folder is says the SuperNode's own configuration, never a message."""

    def answered(message: Message, context: Context) -> Message:
        about = context.node_config
        return reply_to(message, Path(str(about.get("folder", ""))), str(about.get("site", "")))

    made = ClientApp()
    for kind in (ANSWER, PRESENT):
        made.query(kind.partition(".")[2])(answered)
    return made


app = client_app()
