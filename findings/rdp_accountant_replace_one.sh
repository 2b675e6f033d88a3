#!/usr/bin/env bash
# One library, one event, one adjacency, two accountants: 2.17 and 4.38. The RDP accountant takes replace-one for add-remove.
#
# dp-accounting 0.6.0. `GaussianDpEvent(z)` is documented as a sum of values of norm at most C with noise of deviation z C.
# If a value is replaced by another, that sum moves by up to 2 C. `PLDAccountant` with REPLACE_ONE counts so;
# `RdpAccountant` with REPLACE_ONE gives the epsilon of a sum that moves by C, without a warning: half of what is true.
# Known as google/differential-privacy issue 378, a proposed repair is its pull request 464.
#
# Output seen:
#   ADD_OR_REMOVE_ONE: rdp 2.166, pld 1.993, exact 1.993
#   REPLACE_ONE: rdp 2.166, pld 4.377, exact 4.377
#   the RDP accountant says less than what is true: True
#
# Exits with 0 while that is so. SecFPP asks about sensitivities only, never about an adjacency (secfpp.privacy.accounting).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  dp-accounting==0.6.0 attrs==23.2.0 dm-tree==0.1.10 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import math
import sys

from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

DELTA, Z = 1e-5, 2.0


def exact(distance):
    """Epsilon of two unit Gaussians so far apart: Balle and Wang, arXiv 1805.06530, Theorem 8."""
    upper, lower = (lambda e: norm.cdf(distance / 2 - e / distance)), (lambda e: norm.logcdf(-distance / 2 - e / distance))
    return brentq(lambda e: upper(e) - math.exp(e + lower(e)) - DELTA, 0, 50)


found = {}
for relation, moved in ((NeighboringRelation.ADD_OR_REMOVE_ONE, 1), (NeighboringRelation.REPLACE_ONE, 2)):
    rdp, pld = (
        accountant(neighboring_relation=relation).compose(GaussianDpEvent(Z)).get_epsilon(DELTA)
        for accountant in (RdpAccountant, PLDAccountant)
    )
    found[relation.name] = rdp, pld, exact(moved / Z)
    print(f"{relation.name}: rdp {rdp:.3f}, pld {pld:.3f}, exact {exact(moved / Z):.3f}")
rdp, pld, true = found["REPLACE_ONE"]
print("the RDP accountant says less than what is true:", bool(rdp < true))
sys.exit(0 if rdp == found["ADD_OR_REMOVE_ONE"][0] and rdp < 0.6 * true and abs(pld - true) < 0.01 else 1)
PY
