from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from secfpp import SecFPP, SecureKMeans, SecureMean
from secfpp.errors import ConfigError
from secfpp.settings import check_types


@dataclass(frozen=True)
class Some:
    mode: Literal["a", "b", 3] = "a"
    count: int | None = None
    share: float = 0.5
    on: bool = True
    other: object = None


@pytest.mark.parametrize(
    "good", [{"mode": 3}, {"count": np.int64(2)}, {"share": 1}, {"share": np.float32(0.5)}, {"other": "anything"}]
)
def test_values_that_fit(good: dict[str, Any]) -> None:
    check_types(Some(**good))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"mode": "A"}, "some.mode = 'A': 'a' or 'b' or 3"),
        ({"mode": True}, "some.mode = True"),
        ({"count": 2.5}, "some.count = 2.5: a whole number or None"),
        ({"count": True}, "some.count = True"),
        ({"share": "0.5"}, "some.share = '0.5': a number"),
        ({"on": 1}, "some.on = 1: True or False"),
    ],
)
def test_values_that_do_not(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_types(Some(**bad), "some")
    assert said in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)mode.*share"):
        check_types(Some(mode="c", share="x"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "made",
    [
        lambda: SecureKMeans(reveal="Distances"),  # type: ignore[arg-type]
        lambda: SecureKMeans(threshold="Standard"),  # type: ignore[arg-type]
        lambda: SecureKMeans(compare_bits=16),  # type: ignore[arg-type]
        lambda: SecureKMeans(k=2.5),  # type: ignore[arg-type]
        lambda: SecureKMeans(committee="16"),  # type: ignore[arg-type]
        lambda: SecureMean(threshold=2.5),  # type: ignore[arg-type]
        lambda: SecFPP(directions=1.5),  # type: ignore[arg-type]
    ],
)
def test_a_misspelt_security_setting_does_not_run_with_another_meaning(made: Any) -> None:
    with pytest.raises(ConfigError):
        made()
