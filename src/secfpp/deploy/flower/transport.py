"""A transport over Flower's grid, and who stands behind its nodes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from secfpp.crypto.roster import Roster
from secfpp.deploy.flower.identity import check_presence, new_challenge
from secfpp.deploy.flower.names import ANSWER, PRESENT, RECORD
from secfpp.errors import ProtocolError

_POLL = 0.1
_PRESENT_SECONDS = 60.0

_log = logging.getLogger(__name__)


class FlowerTransport:
    """Carries one request to each site and brings back the replies that come in time.

    A node that appears later is asked who it is before the next exchange, so that a site whose SuperNode was started
    again is reached again.

    Args:
        grid: Flower's.
        roster: whose sites take part.
        patience: seconds to wait for nodes of all sites.
    """

    def __init__(self, grid: Any, roster: Roster, patience: float = _PRESENT_SECONDS) -> None:
        self._grid, self._roster = grid, roster
        self._node_of: dict[str, int] = {}
        self._known: set[int] = set()
        until = time.monotonic() + patience
        while len(nodes := self._nodes()) < len(roster.keys) and time.monotonic() < until:
            time.sleep(1.0)
        self._meet(nodes, _PRESENT_SECONDS)
        self._sites = tuple(sorted(self._node_of))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that were there at the start, in order."""
        return self._sites

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> dict[str, bytes]:
        """Ask sites, each its own request, all at the same time.

        Args:
            messages: site to request.
            deadline: seconds from now after which no reply counts.

        Returns:
            The replies in time; a site that failed, died or was late is absent.

        Raises:
            KeyError: a site that does not take part.
        """
        until = time.monotonic() + deadline
        if new := self._nodes() - self._known:
            self._meet(new, deadline / 2)
        at = {self._node_of[site]: site for site in messages}
        requests = {node: {"data": bytes(messages[site]), "patience": float(deadline)} for node, site in at.items()}
        replies = self._ask(ANSWER, requests, until - time.monotonic())
        return {at[node]: about["data"] for node, about in replies.items() if isinstance(about.get("data"), bytes)}

    def ping(self) -> float:
        """Seconds that an exchange without work takes at present."""
        began = time.monotonic()
        self._present(self._node_of.values(), _PRESENT_SECONDS)
        return time.monotonic() - began

    def _nodes(self) -> set[int]:
        return {int(node) for node in self._grid.get_node_ids()}

    def _meet(self, nodes: Iterable[int], deadline: float) -> None:
        """Ask nodes which sites they are; the server's log says why one is left out."""
        challenges, told = self._present(nodes, deadline)
        for node, challenge in challenges.items():
            if node not in told:
                continue  # it is asked again before the next exchange
            self._known.add(node)
            name = str(told[node].get("name", ""))
            try:
                check_presence(challenge, bytes(told[node].get("data", b"")), name, self._roster)
            except (ProtocolError, TypeError) as error:
                _log.error("node %d is left out: %s", node, error)
                continue
            self._node_of[name] = node

    def _present(self, nodes: Iterable[int], deadline: float) -> tuple[dict[int, bytes], dict[int, Mapping[str, Any]]]:
        challenges = {node: new_challenge(node) for node in nodes}
        asked = {node: {"data": data, "patience": deadline} for node, data in challenges.items()}
        return challenges, self._ask(PRESENT, asked, deadline)

    def _ask(
        self, kind: str, requests: Mapping[int, Mapping[str, Any]], deadline: float
    ) -> dict[int, Mapping[str, Any]]:
        """Replies by node that come within `deadline` seconds."""
        until = time.monotonic() + deadline
        messages = [
            Message(RecordDict({RECORD: ConfigRecord(dict(about))}), node, kind, ttl=max(deadline, 1.0))
            for node, about in requests.items()
        ]
        sent = self._grid.push_messages(messages) if messages else []
        waiting = {number: node for number, node in zip(sent, requests, strict=True) if number}
        replies: dict[int, Mapping[str, Any]] = {}
        while waiting and time.monotonic() < until:
            for message in self._grid.pull_messages(list(waiting)):
                node = waiting.pop(message.metadata.reply_to_message_id, None)
                if node is None:
                    continue
                if message.has_error():
                    _log.warning("node %d gave no reply: Flower's error %d", node, message.error.code)
                elif RECORD in message.content:
                    replies[node] = message.content[RECORD]
            if waiting:
                time.sleep(_POLL)
        return replies
