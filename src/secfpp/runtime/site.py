"""A client in a process of its own: it answers the server's requests, one at a time, whatever carries them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from traceback import format_tb
from typing import Any

from secfpp.errors import DataError, ProtocolError, SecFPPError, TamperError
from secfpp.protocol import refusals, wire
from secfpp.protocol.program import Arrays, ClientId, ClientState, resolve
from secfpp.runtime.envelope import Part, Reply, Request
from secfpp.runtime.site_store import SiteStore
from secfpp.secure.session import Party

DONE = "done"
_log = logging.getLogger(__name__)


class Refused(SecFPPError):  # noqa: N818
    """A request that this site does not carry out; `reason` is one of `secfpp.runtime.envelope.REASONS`.

    Args:
        reason: what the server is told.
        told: what it is told beside, JSON-ready; nothing that depends on images.
        why: for the site's own log.
    """

    def __init__(self, reason: str, why: str, told: object = None) -> None:
        self.reason, self.told = reason, told
        super().__init__(why)


@dataclass(frozen=True)
class Run:
    """One run as a site takes part in it.

    Attributes:
        algorithm: the method, with the settings that the site agreed to.
        context: the client's.
        store: where its states are kept.
        facts: what the server is told when the run is opened, JSON-ready.
        finished: called with the last state when the server closes the run; what it returns, JSON-ready, is told it.
    """

    algorithm: Any
    context: Any
    store: SiteStore
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: Callable[[ClientState], Mapping[str, Any]] | None = None

    @property
    def party(self) -> Party | None:
        """The client's keys."""
        party = getattr(self.context, "party", None)
        return party if isinstance(party, Party) else None


@dataclass(frozen=True)
class Handled:
    """One request as a site's log has it; `error` stays at the site."""

    request: Request | None
    reply: Reply
    received: int
    sent: int
    error: BaseException | None = None


class Site:
    """Answers requests; never raises, and tells nothing of an error but its kind.

    Messages of a run are answered in the order of their sequence numbers. One that is repeated gets the reply that it
    had, so that a carrier may repeat what it is not sure of. State is kept on disk when a round is committed. What a
    session keeps secret is in memory only, so that a site which is started again is out of the round.

    Args:
        client: its name.
        enter: called with what the server says of a run; returns the run if the site takes part.
        on_handled: called after each request, e.g. to log it; where it raises, the answer does not leave.
    """

    def __init__(
        self,
        client: ClientId,
        enter: Callable[[Any], Run],
        on_handled: Callable[[Handled], None] | None = None,
    ) -> None:
        self.client, self._enter, self._on_handled = client, enter, on_handled
        self._run: Run | None = None
        self._state = ClientState()
        self._attempt, self._seq, self._round, self._reply = 0, 0, 0, b""
        self._one = threading.Lock()

    def handle(self, message: bytes) -> bytes:
        """The reply to one request; a second one waits for the first."""
        with self._one:
            return self._handled(message)

    def _handled(self, message: bytes) -> bytes:
        request: Request | None = None
        error: BaseException | None = None
        try:
            request = Request.decode(message)
            if self._repeats(request):
                return self._reply
            reply = self._carried_out(request)
        except Refused as refused:
            reply, error = Reply(_seq(request), refused.reason, about=refused.told), refused
        except ProtocolError as malformed:
            reply, error = Reply(_seq(request), "malformed"), malformed
        except Exception as failure:
            reply, error = Reply(_seq(request), "failed", about=type(failure).__name__), failure
        data = reply.encode()
        if request is not None and reply.refused not in ("malformed", "closed", "old") and self._own(request):
            self._seq, self._reply = request.seq, data
        if self._on_handled:
            try:
                self._on_handled(Handled(request, reply, len(message), len(data), error))
            except Exception as unlogged:  # what cannot be logged does not leave
                _log.error("%s: an answer was held back, its log: %s", self.client, type(unlogged).__name__)
                data = self._reply = Reply(_seq(request), "failed", about=type(unlogged).__name__).encode()
        return data

    def _own(self, request: Request) -> bool:
        return self._run is not None and request.attempt == self._attempt

    def _repeats(self, request: Request) -> bool:
        return self._own(request) and request.seq == self._seq and bool(self._reply)

    def _carried_out(self, request: Request) -> Reply:
        if request.kind == "open":
            return self._open(request)
        if self._run is None or request.attempt != self._attempt:
            raise Refused("closed", "a request of a run that is not open here")
        if request.seq <= self._seq:
            raise Refused("old", f"request {request.seq} after {self._seq}")
        if request.kind in ("ask", "last"):
            reply = self._answer(self._run, request)
            if request.kind == "last":
                self._commit(self._run, request.round)
            return reply
        if request.kind == "commit":
            self._commit(self._run, request.round)
            return Reply(request.seq)
        told = self._run.finished(self._state) if self._run.finished else None
        return Reply(request.seq, about=told)

    def _open(self, request: Request) -> Reply:
        """Enter a run, at the state that the site had after the server's last committed round."""
        run = self._enter(request.about)
        try:
            found = run.store.load(request.round)
        except DataError as error:
            raise Refused("failed", str(error)) from error
        if found is None and run.store.rounds:
            newest = run.store.rounds[-1]
            why = f"the server is at round {request.round}, this site at round {newest} and keeps no state before"
            raise Refused("ahead", f"{why}: bring the server's checkpoint back, or agree on a new run", newest)
        if run.party is not None:
            ledger = run.party.ledger
            if ledger.round > request.round + 1:
                why = f"the server is at round {request.round}, this site answered in round {ledger.round}"
                raise Refused(
                    "ahead", f"{why}: bring the server's checkpoint back, or agree on a new run", ledger.round
                )
            if ledger.round == request.round + 1:
                try:
                    ledger.again()
                except TamperError as error:
                    raise Refused("old", str(error)) from error
            run.party.session = None
        at, state = found or (0, run.algorithm.client_state(run.context))
        if found is None:
            run.store.save(0, state)
        self._run, self._state, self._attempt = run, state, request.attempt
        self._seq, self._round, self._reply = request.seq, request.round, b""
        return Reply(request.seq, about={**run.facts, "round": at})

    def _answer(self, run: Run, request: Request) -> Reply:
        if request.round <= self._round:
            raise Refused("old", f"a question of round {request.round}, which is committed")
        return Reply(request.seq, parts=tuple(self._step(run, part) for part in request.parts))

    def _step(self, run: Run, part: Part) -> Part:
        """One step; where it ends with an error, the state is as before."""
        try:
            payload = wire.decode(part.data)
            found = resolve(run.algorithm, part.step)
            ((state, reply),) = found.call([run.context], [self._state], [payload])
            data = _encoded(reply)
        except ProtocolError as error:
            _log.warning("%s refuses %s: %s", self.client, part.step, error)
            return Part(part.label, DONE, _encoded(refusals.refusal(error)))
        except Exception as error:
            where = "".join(format_tb(error.__traceback__))  # the text may hold what is private
            _log.error("%s: step %s failed with %s at\n%s", self.client, part.step, type(error).__name__, where)
            return Part(part.label, type(error).__name__)
        self._state = state
        return Part(part.label, DONE, data)

    def _commit(self, run: Run, round_: int) -> None:
        if round_ == self._round:  # with its last question, whose answer did not arrive
            return
        if round_ != self._round + 1:
            raise Refused("old", f"round {round_} to be committed after round {self._round}")
        run.store.save(round_, self._state)
        self._round = round_


def _encoded(arrays: Arrays) -> bytes:
    return bytes(wire.encode(arrays))


def _seq(request: Request | None) -> int:
    return request.seq if request else 0
