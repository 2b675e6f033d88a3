"""What server and clients of the plain mean refuse."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secfpp.crypto.field import PrimeField
from secfpp.errors import ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Replies
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import Base, caught_up, sum_of_squares, with_base

GOOD = {"update": np.zeros(2, np.uint64), "version": np.array(0), "digest": np.zeros(32, np.uint8)}
BAD = [
    ({"update": GOOD["update"]}, "without a version"),
    ({**GOOD, "version": np.array(np.inf)}, "without a version"),
    ({**GOOD, "digest": np.zeros(31, np.uint8)}, "which base"),
    ({**GOOD, "version": np.array(-1)}, "without a version"),
    ({**GOOD, "version": np.array([0])}, "without a version"),
    ({"version": np.array(0)}, "nothing as its update"),
    ({**GOOD, "update": np.zeros(3, np.uint64)}, r"another form.*\(3,\)"),
    ({**GOOD, "update": np.zeros(2)}, "dtype uint64"),
    ({**GOOD, "update": np.array([0, PrimeField.p], np.uint64)}, "no field element"),
]


@pytest.mark.parametrize(("reply", "reason"), BAD)
def test_replies_of_no_honest_client_are_refused_by_name(reply: dict[str, np.ndarray], reason: str) -> None:
    program = PlainMean().mean(Cohort({"a": 1, "b": 1}, 0, 0), "p")
    next(program)
    with pytest.raises(ProtocolError, match=f"client 'b' .*{reason}"):
        program.send(Replies({"a": GOOD, "b": reply}))


def test_a_base_of_another_form_or_content_is_not_taken_over() -> None:
    base, other = np.zeros((2, 2), np.float32), with_base(ClientState(), "p", np.zeros(3, np.float32))
    with pytest.raises(ProtocolError, match=r"float32 \(2, 2\), this client's float32 \(3,\)"):
        caught_up(other, "p", base, Base(2, sha256(base.tobytes()).hexdigest()))
    with pytest.raises(TamperError, match="not the base that others have"):
        caught_up(with_base(ClientState(), "p", base + 1), "p", base, Base(2, "00"))


@given(
    st.sampled_from([3, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 60]).flatmap(
        lambda most: hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=40), elements=st.integers(-most, most))
    )
)
def test_sums_of_squares_are_exact_whatever_their_size(integers: np.ndarray) -> None:
    assert sum_of_squares(integers) == sum(value * value for value in integers.reshape(-1).tolist())
