"""What security costs a method, phase by phase, and what it is paid for: what others learn, and who holds shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.runtime.costs import Share

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

PHASES = {
    "session": "keys",
    "clusterer": "clustering",
    "aggregator": "aggregation",
    "poll": "polls",
    "method": "training",
}
"""Component of a method -> phase, in the order in which they are listed; another component is its own phase."""
ALL = "all"
"""The sum of a method's phases."""
CLEAR = "+clear"
"""How the label of a variant ends that is the same method with a server that sees everything."""
IN_THE_CLEAR: Mapping[str, Any] = {"reveal": "everything to the server", "holders": None, "threshold": None}
"""What a part stands for that has no method ``protection``."""
PARTS = ("clusterer", "aggregator", "poll")
"""The components that promise something; what an earlier one says counts before what a later one does."""

_NOTHING = (0.0,) * 5


def security(runs: Sequence[RunResult], algorithm: object | None, participation: float = 1.0) -> dict[str, Any]:
    """The entry ``security`` of a method in ``summary.json``.

    Args:
        runs: the method's, at least one.
        algorithm: the method with its settings; None if it is not known here, which leaves its promises null.
        participation: share of the clients that take part in a round.

    Returns:
        What `promises` gives, and as means over `runs`: ``exchanges``; ``exchanges_by_phase`` (one that several
        phases share counts for each); ``bytes``, per phase ``client_up`` and ``client_down`` (sent and received by
        a client, mean over clients) and ``server`` (all that passes the server, received and sent); ``seconds`` per
        phase, of clients and server together.
    """
    seen = {name for run in runs for name in (*run.costs.components, *run.costs.seconds)}
    parts = {name: PHASES.get(name, name) for name in [*PHASES, *sorted(seen - PHASES.keys())] if name in seen}
    shares = {name: [(run.costs.components.get(name, Share()), len(run.clients)) for run in runs] for name in parts}
    sends = {name for name, found in shares.items() if any(share.messages for share, _ in found)}
    return {
        **promises(algorithm, min(_taking_part(run, participation) for run in runs), sends),
        "exchanges": _mean(run.costs.exchanges for run in runs),
        "exchanges_by_phase": {
            phase: _mean(share.exchanges for share, _ in shares[name]) for name, phase in parts.items()
        },
        "bytes": {
            phase: {
                "client_up": _mean(share.up / n for share, n in shares[name]),
                "client_down": _mean(share.down / n for share, n in shares[name]),
                "server": _mean(share.up + share.down for share, _ in shares[name]),
            }
            for name, phase in parts.items()
        },
        "seconds": {phase: _mean(run.costs.seconds.get(name, 0.0) for run in runs) for name, phase in parts.items()},
    }


def promises(algorithm: object | None, n_clients: int, sends: Collection[str]) -> dict[str, Any]:
    """What others learn of a method's clients: ``reveal``, ``holders``, ``threshold``, by its parts that send.

    A part is one of `PARTS`. Its method ``protection(n_clients)``, if it has one, gives these keys,
    and others if it likes: what is revealed, how many clients hold shares, and how many of them may join the server
    without learning more. A part without it is in the clear, and so is a method with such a part, whatever the
    others do. If a part says other things than the whole, each is under its phase.

    Args:
        algorithm: the method; None if it is not known here.
        n_clients: fewest clients in a round.
        sends: the components that sent something; without a part among them there is no ``reveal``.
    """
    told = {PHASES[name]: _told(getattr(algorithm, name, None), n_clients) for name in PARTS if name in sends}
    if not told:
        return {"holders": None, "threshold": None}
    if algorithm is None:
        return dict.fromkeys(IN_THE_CLEAR)
    if any(table == IN_THE_CLEAR for table in told.values()):
        whole = dict(IN_THE_CLEAR)
    else:
        whole = {key: next((t[key] for t in told.values() if t.get(key) is not None), None) for key in IN_THE_CLEAR}
    differ = any(key not in whole or whole[key] != value for table in told.values() for key, value in table.items())
    return {**whole, **(told if differ else {})}


def twin(method: str, methods: Collection[str]) -> str | None:
    """The label among `methods` of `method` in the clear, if it is there."""
    return label if (label := f"{method}{CLEAR}") in methods else None


def is_twin(label: str, methods: Collection[str]) -> bool:
    """Whether `label` is another one of `methods` in the clear."""
    return label.endswith(CLEAR) and label.removesuffix(CLEAR) in methods


@dataclass(frozen=True)
class Cost:
    """A figure, and that of the same method in the clear if it is in the run."""

    value: float
    clear: float | None = None

    @property
    def times(self) -> str:
        """The first as a multiple of the second, e.g. ``2.4`` after a sign; empty without a second that is above 0."""
        if not self.clear:
            return ""
        ratio = self.value / self.clear
        return f"\N{MULTIPLICATION SIGN}{ratio:.{1 if ratio < 9.95 else 0}f}"


@dataclass(frozen=True)
class PhaseCosts:
    """A line of the report: one phase of a method, or `ALL`; bytes as in `security`."""

    method: str
    phase: str
    exchanges: Cost
    up: Cost
    down: Cost
    server: Cost
    seconds: Cost


def phase_costs(methods: Mapping[str, Any], method: str) -> list[PhaseCosts]:
    """The phases of `method` and their sum, beside its twin in the clear; nothing if it has no phases.

    Args:
        methods: ``summary["methods"]``.
        method: one of them.
    """
    other = twin(method, methods)
    own, clear = _figures(methods[method]), _figures(methods[other]) if other else {}
    lines = []
    for phase in sorted({**own, **clear}, key=lambda phase: phase == ALL):
        values = own.get(phase, _NOTHING)
        beside = clear.get(phase, _NOTHING) if clear else (None,) * len(values)
        lines.append(PhaseCosts(method, phase, *map(Cost, values, beside)))
    return lines


def all_phase_costs(methods: Mapping[str, Any]) -> tuple[list[PhaseCosts], list[PhaseCosts]]:
    """Lines of the methods that keep something from the server or have a twin in the clear, and of all others.

    Args:
        methods: ``summary["methods"]``.
    """
    priced: list[PhaseCosts] = []
    others: list[PhaseCosts] = []
    for name, method in methods.items():
        revealed = method["security"].get("reveal")
        apart = twin(name, methods) or revealed not in (None, IN_THE_CLEAR["reveal"])
        (priced if apart else others).extend(phase_costs(methods, name))
    return priced, others


def _figures(method: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Phase -> exchanges, bytes up, down and through the server, seconds; with `ALL`, if there are any."""
    spent = method["security"]
    table: dict[str, tuple[float, ...]] = {}
    for phase, seconds in spent["seconds"].items():
        sizes = spent["bytes"][phase]
        sent = sizes["client_up"], sizes["client_down"], sizes["server"]
        table[phase] = (spent["exchanges_by_phase"][phase], *sent, seconds)
    sums = [sum(column) for column in zip(*table.values(), strict=True)]
    return {**table, ALL: (spent["exchanges"], *sums[1:])} if table else {}


def _told(part: object, n_clients: int) -> dict[str, Any]:
    offered = getattr(part, "protection", None)
    return dict(offered(n_clients) if callable(offered) else IN_THE_CLEAR)


def _taking_part(run: RunResult, participation: float) -> int:
    from secfpp.runtime.trainer import participants

    return len(participants(run.clients, participation, run.seed, 1))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
