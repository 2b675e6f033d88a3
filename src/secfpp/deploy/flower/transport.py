"""A transport over Flower's grid, and who stands behind its nodes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from secfpp.crypto.roster import Roster
from secfpp.deploy.flower.identity import check_presence, new_challenge
from secfpp.deploy.flower.names import ANSWER, PRESENT, RECORD
from secfpp.errors import ProtocolError

PRESENT_SECONDS = 60.0
"""How long a node has to say which site it is."""
_POLL = 0.1

_log = logging.getLogger(__name__)


class FlowerTransport:
    """Carries one request to each site and brings back the replies that come in time.

    Nodes that appear later are asked beside the next exchange which sites they are, so that a site whose SuperNode was
    started again is reached again.

    Args:
        grid: Flower's.
        roster: whose sites take part.
        patience: seconds to wait for nodes of all sites.
    """

    def __init__(self, grid: Any, roster: Roster, patience: float = PRESENT_SECONDS) -> None:
        self._grid, self._roster = grid, roster
        self._node_of: dict[str, int] = {}
        self._asked: set[int] = set()
        self._challenged: dict[str, tuple[int, bytes]] = {}  # by the message's number
        until = time.monotonic() + patience
        while len(self._node_of) < len(roster.keys) and time.monotonic() < until:
            self._challenge_new()
            self._pull({})
            time.sleep(_POLL)
        self._sites = tuple(sorted(self._node_of))
        if absent := sorted(roster.keys.keys() - self._node_of.keys()):
            _log.warning("not there: %s", ", ".join(absent))

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
        self._challenge_new()
        at = {self._node_of[site]: site for site in messages}
        replies = self._ask(ANSWER, {node: bytes(messages[site]) for node, site in at.items()}, deadline)
        return {at[node]: about["data"] for node, about in replies.items() if isinstance(about.get("data"), bytes)}

    def ping(self) -> float:
        """Seconds that an exchange without work takes at present."""
        began = time.monotonic()
        self._ask(PRESENT, {node: new_challenge(node) for node in self._node_of.values()}, PRESENT_SECONDS)
        return time.monotonic() - began

    def _ask(self, kind: str, requests: Mapping[int, bytes], deadline: float) -> dict[int, Mapping[str, Any]]:
        """Replies by node that come within `deadline` seconds."""
        until, waiting = time.monotonic() + deadline, self._push(kind, requests, deadline)
        replies: dict[int, Mapping[str, Any]] = {}
        while waiting and time.monotonic() < until:
            for number, about in self._pull(waiting).items():
                replies[waiting.pop(number)] = about
            if waiting:
                time.sleep(_POLL)
        return replies

    def _push(self, kind: str, requests: Mapping[int, bytes], patience: float) -> dict[str, int]:
        """Send messages; their numbers, and to which nodes they are."""
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({"data": data, "patience": float(patience)})}),
                node,
                kind,
                ttl=max(patience, 1.0),
            )
            for node, data in requests.items()
        ]
        sent = list(self._grid.push_messages(messages)) if messages else []
        return {number: node for number, node in zip(sent, requests, strict=False) if number}

    def _pull(self, waiting: Mapping[str, int]) -> dict[str, Mapping[str, Any]]:
        """Replies that have come, by the number of what they reply to; what they hold, {} for an error.

        Those to challenges are taken note of on the way.
        """
        found: dict[str, Mapping[str, Any]] = {}
        numbers = [*waiting, *self._challenged]
        for message in self._grid.pull_messages(numbers) if numbers else ():
            number, about = message.metadata.reply_to_message_id, {}
            if message.has_error():
                _log.warning("a message came back with Flower's error %d", message.error.code)
            elif RECORD in message.content:
                about = message.content[RECORD]
            if number in self._challenged:
                self._meet(*self._challenged.pop(number), about)
            elif number in waiting:
                found[number] = about
        return found

    def _challenge_new(self) -> None:
        """Ask nodes that were not asked before which sites they are."""
        challenges = {
            int(node): new_challenge(int(node)) for node in self._grid.get_node_ids() if node not in self._asked
        }
        self._asked |= challenges.keys()
        for number, node in self._push(PRESENT, challenges, PRESENT_SECONDS).items():
            self._challenged[number] = node, challenges[node]

    def _meet(self, node: int, challenge: bytes, about: Mapping[str, Any]) -> None:
        """Take note of which site a node is; the server's log says why one is left out."""
        name, signature = about.get("name"), about.get("data")
        if not isinstance(name, str) or not isinstance(signature, bytes):
            self._asked.discard(node)  # the site's work has not started yet: it is asked again
            return
        try:
            check_presence(challenge, signature, name, self._roster)
        except ProtocolError as error:
            _log.error("node %d is left out: %s", node, error)
        else:
            self._node_of[name] = node
