"""What a deployed run leaves at the server: what a server can know, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import secfpp
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.names import AGREED
from secfpp.errors import DataError
from secfpp.experiment.results.text import amount, counted
from secfpp.protocol.program import ClientId
from secfpp.protocol.refusals import Refusal
from secfpp.runtime.costs import Costs
from secfpp.storage import atomic_write

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Served:
    """What a server knows after a run.

    Attributes:
        agreed: what was run.
        rounds: rounds done.
        sites: those that took part at all, with how many images each says to have.
        cluster_of: each site's cluster, if the method has clusters.
        costs: messages of the protocol.
        seconds: of all rounds.
        exchange_seconds: of each exchange since the server was started last.
        refusals: what parties refused of what others sent.
        failures: ``(round, site, step, kind of exception)`` of what failed at a site.
        refused: sites that did not take part, and why.
        lost: rounds that came to nothing, for a group or for all, and why.
        told: what sites said of themselves at the end.
        figures: what sites measured of themselves on average, 0..1, and which ``sites``; if that was agreed on.
        behind: sites that missed the last round; what they have is of an earlier one.
    """

    agreed: Agreed
    rounds: int
    sites: Mapping[ClientId, int]
    cluster_of: Mapping[ClientId, int] | None
    costs: Costs
    seconds: float
    exchange_seconds: tuple[float, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[tuple[int, ClientId, str, str], ...] = ()
    refused: Mapping[ClientId, str] = field(default_factory=dict)
    lost: Mapping[int, str] = field(default_factory=dict)
    told: Mapping[ClientId, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    behind: tuple[ClientId, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "secfpp": secfpp.__version__,
            "run": self.agreed.run,
            "digest": self.agreed.digest,
            "method": self.agreed.algorithm.name,
            "rounds": self.rounds,
            "lost": [{"round": number, "why": why} for number, why in self.lost.items()],
            "sites": {
                client: {
                    "images": images,
                    "cluster": None if self.cluster_of is None else self.cluster_of.get(client),
                    **({"told": self.told[client]} if self.told.get(client) else {}),
                }
                for client, images in sorted(self.sites.items())
            },
            "figures": dict(self.figures),
            "behind": list(self.behind),
            "refused": dict(self.refused),
            "refusals": [asdict(one) for one in self.refusals],
            "failures": [dict(zip(("round", "site", "step", "kind"), one, strict=True)) for one in self.failures],
            "costs": self.costs.as_dict(),
            "seconds": self.seconds,
            "exchange_seconds": [round(one, 4) for one in self.exchange_seconds],
        }


def write_results(folder: Path, served: Served) -> None:
    """Write ``summary.json`` and ``agreed.toml`` to `folder`.

    Raises:
        DataError: they cannot be written.
    """
    served.agreed.save(folder / AGREED)
    try:
        atomic_write(folder / SUMMARY, (json.dumps(served.to_json(), indent=2) + "\n").encode())
    except OSError as error:
        raise DataError(f"{folder / SUMMARY} cannot be written: {error.strerror}") from error


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What a ``summary.json`` says, for people."""
    sites, costs = summary["sites"], summary["costs"]
    clusters = {site["cluster"] for site in sites.values()} - {None}
    groups = f" in {counted(len(clusters), 'group')}" if clusters else ""
    found = [f"{len(sites)} sites{groups}, {summary['rounds']} rounds in {summary['seconds']:.1f} s"]
    found += [f"round {lost['round']} was lost: {lost['why']}" for lost in summary["lost"]]
    if sites:
        sent = amount(sum(costs["up"].values()) / len(sites))
        found.append(f"{costs['exchanges']} exchanges, {sent} sent by a site on average")
    found += [f"{site} missed the last round: what it has is of an earlier one" for site in summary["behind"]]
    found += [f"{site} did not take part: {why}" for site, why in summary["refused"].items()]
    kinds = Counter((one["site"], one["step"], one["kind"]) for one in summary["failures"])
    found += [f"{site}: {step} failed {count} times with {kind}" for (site, step, kind), count in kinds.items()]
    if summary["refusals"]:
        found.append(f"{len(summary['refusals'])} messages were refused; summary.json says by whom")
    if mean := summary["figures"]:
        found.append(f"{100 * mean['test']:.1f} % of test images, mean over {len(mean['sites'])} sites' own")
    for site, about in sites.items():
        if (test := about.get("told", {}).get("test")) is not None:
            found.append(f"{site} tells: {test:.1f} % of its test images")
    return found


def sentences_of(folder: Path) -> list[str]:
    """What the results in a folder say, for people; nothing if there are none."""
    path = folder / SUMMARY
    return sentences(json.loads(path.read_bytes())) if path.exists() else []
