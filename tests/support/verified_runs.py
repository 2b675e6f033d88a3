"""A run of ten sites, small, in which holders verify what they are told."""

from __future__ import annotations

from typing import Any

VERIFIED: dict[str, Any] = {
    "rounds": 1,
    "data": {
        "name": "icons",
        "domains": ["chalk", "pixel"],
        "clients_per_domain": 5,
        "alpha": 100.0,
        "shots": 12,
        "validation_shots": 2,
        "test_shots": 1,
    },
    "method": {
        "name": "secfpp",
        "effort": 1.0,
        "training": {"steps": 1, "batch": 4},
        "clusterer": {"kind": "secure_agreement", "security": "active", "restarts": 4},
        "poll": {"kind": "secure", "security": "active"},
    },
}
