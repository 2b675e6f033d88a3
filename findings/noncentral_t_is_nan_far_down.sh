#!/usr/bin/env bash
# The lower tail of a noncentral t distribution is nan where it is tiny, and not everywhere there; its mirror image is right.
#
# scipy 1.17.1. `nct.cdf(-c, df, delta)` and `nct.sf(c, df, -delta)` are one number, for t with -delta is -t with delta. Far
# down the first is nan, without a warning, between values that are fine; the second never is on this grid. A search for
# the power of a two-sided t test adds that tail, so that root finding meets nan and ends with an error.
#
# Output seen:
#   nct.cdf(-12.7, 1, 11.3) = nan, nct.sf(12.7, 1, -11.3) = 0.0
#   nan in the lower tail: True, in its mirror image: False
#
# Exits with 0 while that is so. SecFPP takes the mirror image (secfpp.experiment.results.significance).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import math
import sys

import numpy as np
from scipy.stats import nct, t

lower, mirrored = [], []
for df in (1, 2, 4, 9):
    critical = t.ppf(0.975, df)
    for effect in np.linspace(0, 12, 49):
        delta = effect * math.sqrt(df + 1)
        lower.append(float(nct.cdf(-critical, df, delta)))
        mirrored.append(float(nct.sf(critical, df, -delta)))
c, delta = t.ppf(0.975, 1), 8 * math.sqrt(2)
print(f"nct.cdf(-{c:.1f}, 1, {delta:.1f}) = {nct.cdf(-c, 1, delta)}, nct.sf({c:.1f}, 1, -{delta:.1f}) = {nct.sf(c, 1, -delta)}")
bad = [any(map(math.isnan, values)) for values in (lower, mirrored)]
print(f"nan in the lower tail: {bad[0]}, in its mirror image: {bad[1]}")
sys.exit(0 if bad == [True, False] else 1)
PY
