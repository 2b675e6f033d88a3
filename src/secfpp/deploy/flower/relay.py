"""Answers the messages that come to a site's SuperNode, all in one process, and runs no code of a run's app.

Flower calls such a process an executor and starts one for each message by default, which takes seconds and lets the
server run any code at the site. A SuperNode with ``--isolation process`` leaves the executor to others: to this one.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from secfpp.deploy.flower.client import reply_to
from secfpp.deploy.flower.identity import site_name
from secfpp.errors import SecFPPError

_POLL = 0.05
_AWAY = 1.0
_log = logging.getLogger(__name__)


class Relay:
    """The executor of one SuperNode.

    Args:
        folder: the site's folder.
        address: ``host:port`` of the SuperNode's own interface.
        secret: what the SuperNode and its executor share, so that no other process of the machine takes its place.
    """

    def __init__(self, folder: Path, address: str, secret: bytes) -> None:
        self._folder, self._address = folder, address
        self._name = site_name(folder)
        own = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
        )
        self._node = self._client(RuntimeVersionHttpInterceptor(component_name="SuperExec"), own)

    def _client(self, *interceptors: Any) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            self._address, insecure=True, root_certificates=None, interceptors=interceptors
        )

    def run(self) -> None:
        """Answer, until the process is ended."""
        wanted = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        while True:
            try:
                found = self._node.AcquireTask(wanted)
            except Exception as error:
                _log.info("the SuperNode does not answer: %s", type(error).__name__)
                time.sleep(_AWAY)
                continue
            if not found.token:
                time.sleep(_POLL)
                continue
            try:
                self._answer(found.token)
            except Exception as error:
                _log.warning("%s: a message is lost: %s", self._name, type(error).__name__)

    def _answer(self, token: str) -> None:
        """Answer the message of one task."""
        client = self._client(
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), RuntimeTokenHttpInterceptor(token)
        )

        def beat() -> bool:
            with suppress(Exception):
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            return True

        alive, context, ended = HeartbeatSender(beat), None, SubStatus.FAILED
        alive.start()
        try:
            message, context, _, _ = pull_task_input(client)
            push_message(client, reply_to(message, self._folder, self._name), context)
            ended = SubStatus.COMPLETED
        finally:
            push_task_output(client, context, ended, "" if ended == SubStatus.COMPLETED else "no reply")
            alive.stop()
            client.close()


def main() -> None:
    """Run as ``python -m secfpp.deploy.flower.relay FOLDER ADDRESS SECRET``, the last a file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder, address, secret = sys.argv[1:]
    try:
        Relay(Path(folder), address, Path(secret).read_bytes()).run()
    except SecFPPError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
