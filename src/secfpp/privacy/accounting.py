"""What releases cost together: epsilon at a delta, by the accountants of dp-accounting that are valid for them.

Norms are folded into noise multipliers before the library sees them, and it is always asked about ``add_remove``: its
two accountants take another adjacency differently (findings/rdp_accountant_replace_one.sh). Gaussian releases compose
exactly to one. Where units are sampled, its privacy loss distribution is used, with steps as fine as the result needs,
beside Renyi divergences at whole orders only, which never fail to converge. Skellam noise has no event there: its Renyi
divergence is ours (`secfpp.privacy.skellam`), the conversion the library's.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from secfpp.errors import ConfigError, MissingExtraError, Problem, UnsupportedMechanism
from secfpp.privacy.events import Composed, Event, Gaussian, SampledGaussian, Skellam, Uncovered
from secfpp.privacy.skellam import renyi_divergence

Counts = dict[Event, int]

_WHOLE = np.unique(np.concatenate([np.arange(1, 65), np.geomspace(64, 2**20, 128).round()]))
"""Whole Renyi orders, 1 for interpolation only; up to those that are best at an epsilon of 1e-5."""
_ORDERS = np.union1d(_WHOLE[1:], np.arange(11, 100) / 10)
_LARGEST_SAMPLED = 2048
"""Orders above are left out where units are sampled: the time to compute one grows with it."""
_FINEST, _COARSEST, _STEPS = 1e-7, 1e-2, 5000


def epsilon(events: Iterable[Event], delta: float) -> float:
    """The least epsilon that is proven for all `events` together; infinite if one of them is `Uncovered`.

    Valid also if later releases depend on earlier ones, as long as the events themselves do not.

    Args:
        events: of one unit and one adjacency, see `Event.restated`.
        delta: above 0 and below 1.

    Raises:
        UnsupportedMechanism: no accountant is valid for them.
        ConfigError: a delta out of range.
        MissingExtraError: dp-accounting is not installed.
    """
    return min(by_accountant(events, delta).values(), default=0.0)


def by_accountant(events: Iterable[Event], delta: float) -> dict[str, float]:
    """The epsilon that each valid accountant gives, by its name: gaussian, pld, rdp; none for no events.

    Args and errors as for `epsilon`.
    """
    if not 0 < delta < 1:
        raise ConfigError([Problem("delta", delta, "above 0 and below 1; well below one over the number of units")])
    counts = _leaves(events)
    kinds = {type(event) for event in counts}
    if Uncovered in kinds:
        return {"none": math.inf}
    if not counts:
        return {}
    if kinds == {Gaussian}:
        return {"gaussian": _gaussian(counts, delta)}
    rdp = _rdp(counts, delta)
    if Skellam in kinds:
        return {"rdp": rdp}
    return {"rdp": rdp, "pld": _pld(counts, delta, rdp)}


def _leaves(events: Iterable[Event]) -> Counts:
    """How often each mechanism was used, whatever it released.

    Raises:
        UnsupportedMechanism: an event of an unknown kind, of another unit or adjacency than the rest, or sampled and by
            replace_one.
    """
    counts: Counter[Event] = Counter()
    for event in events:
        _count(event, 1, counts)
    found = sorted({(event.unit, event.adjacency) for event in counts})
    if len(found) > 1:
        told = ", ".join(f"{unit}s by {adjacency}" for unit, adjacency in found)
        raise UnsupportedMechanism(f"releases on {told} do not add up: restate them for one unit and adjacency first")
    return dict(counts)


def _count(event: Event, times: int, counts: Counter[Event]) -> None:
    kind = type(event)
    if isinstance(event, Composed):
        for part in event.events:
            _count(part, times * event.times, counts)
    elif kind is SampledGaussian and event.adjacency == "replace_one":
        raise UnsupportedMechanism(
            f"{event.covers}: no accountant here is proven for a Poisson sample by replace_one. Ask for add_remove, or "
            "release without a sample"
        )
    elif kind in (Gaussian, SampledGaussian, Skellam, Uncovered):
        counts[_nameless(event)] += times
    else:
        raise UnsupportedMechanism(
            f"{event.covers}: no accountant covers a {kind.__name__}. Release by a mechanism of secfpp.privacy.events, "
            "or record it as Uncovered"
        )


def _nameless(event: Event) -> Event:
    return replace(event, covers="")


def _multiplier(event: Gaussian) -> float:
    return event.sd / event.sensitivity


def _gaussian(counts: Counts, delta: float) -> float:
    """Exact: such releases are one, of the summed squared ratios, and that one's epsilon is known.

    Dong, Roth, Su, arXiv 1905.02383, Corollary 2; Balle, Wang, arXiv 1805.06530, Theorem 8.
    """
    squares = sum(times / _multiplier(event) ** 2 for event, times in counts.items() if isinstance(event, Gaussian))
    with np.errstate(divide="ignore"):
        return float(_library().get_epsilon_gaussian(1 / math.sqrt(squares), delta))


def _pld(counts: Counts, delta: float, rough: float) -> float:
    """From the composed privacy loss distribution, discretised so that no loss is understated."""
    library = _library()
    step = float(np.clip(rough / _STEPS, _FINEST, _COARSEST))
    accountant = library.pld.PLDAccountant(value_discretization_interval=step)
    for event, times in counts.items():
        assert isinstance(event, Gaussian)
        released = library.GaussianDpEvent(_multiplier(event))
        if isinstance(event, SampledGaussian):
            released = library.PoissonSampledDpEvent(event.rate, released)
        accountant.compose(released, times)
    return float(accountant.get_epsilon(delta))


def _rdp(counts: Counts, delta: float) -> float:
    """From the sum of Renyi divergences, converted as in Canonne et al., arXiv 2004.00010, Proposition 12."""
    curve = sum((times * _divergence(event) for event, times in counts.items()), np.zeros(len(_ORDERS)))
    known = np.isfinite(curve)
    return float(_library().rdp.compute_epsilon(_ORDERS[known], curve[known], delta)[0])


def _divergence(event: Event) -> np.ndarray:
    """Renyi divergence of neighbours' releases, an upper bound, at `_ORDERS`; infinite where it is not known."""
    if isinstance(event, SampledGaussian):
        library = _library()
        whole = _WHOLE[_WHOLE <= _LARGEST_SAMPLED]
        accountant = library.rdp.RdpAccountant(whole[1:].tolist())
        accountant.compose(library.PoissonSampledDpEvent(event.rate, library.GaussianDpEvent(_multiplier(event))))
        return _between(whole, accountant.rdp)
    if isinstance(event, Gaussian):
        return _ORDERS / (2 * _multiplier(event) ** 2)
    assert isinstance(event, Skellam)
    l1, l2 = event.changes * event.l1, event.changes * event.l2
    return _between(_WHOLE, renyi_divergence(_WHOLE[1:], l1, l2, event.variance))


def _between(whole: np.ndarray, divergences: np.ndarray) -> np.ndarray:
    """Bounds at `_ORDERS` from bounds at the `whole` orders but the first, which is 1; infinite beyond the last.

    (a - 1) times the divergence of order a is the logarithm of a moment, so convex in a, and 0 at 1: a chord is above.
    """
    moments = np.concatenate([[0.0], (whole[1:] - 1) * divergences])
    return np.asarray(np.interp(_ORDERS, whole, moments, right=np.inf) / (_ORDERS - 1))


def _library() -> Any:
    """dp-accounting with both of its accountants.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        for part in ("pld", "rdp"):
            importlib.import_module(f"dp_accounting.{part}")
        return importlib.import_module("dp_accounting")
    except ImportError as error:
        raise MissingExtraError("accounting for differential privacy", "privacy") from error
