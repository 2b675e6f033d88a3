"""Clients that disagree by groups, to be grouped by agreement."""

from __future__ import annotations

import numpy as np

from secfpp.protocol.program import ClientState
from support.secure_runs import names


def disagreeing(
    groups: int = 3, members: int = 8, seed: int = 0, dimensions: int = 96, strength: float = 0.7
) -> dict[str, ClientState]:
    """Clients with whole numbers, whose variance is 1 and 1/12 for rounding, and a part in common with their group, in no order."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dimensions)) * strength
    order = rng.permutation(groups * members)
    return {
        client: ClientState(
            {
                "z": np.clip(np.rint(centres[i % groups] + rng.normal(size=dimensions)), -3, 3).astype(np.float32),
                "z.spread": np.array(1.08 * dimensions**0.5),
                "domain": np.array(i % groups),
            }
        )
        for client, i in zip(names(groups * members), order.tolist(), strict=True)
    }
