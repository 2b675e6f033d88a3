from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from secfpp import paging
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime import checkpoint
from secfpp.runtime.shared_arrays import LEAST, SharedArrays
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import with_base
from support.toy import Toy, toy_driver

SIZE = LEAST  # numbers, so that an array is several times as large as it must be


def test_equal_arrays_of_different_states_and_slots_become_one_that_nobody_can_write_to() -> None:
    shared, array = SharedArrays(), np.arange(SIZE, dtype=np.float32).reshape(2, -1)
    first = shared.of(ClientState({"a": array.copy(), "b": array.copy()}))
    second = shared.of(ClientState({"c": array.copy(order="F")}))
    assert first["a"] is first["b"] is second["c"]
    assert np.array_equal(first["a"], array)
    with pytest.raises(ValueError, match="read-only"):
        second["c"][0] = 1
    assert shared.of(second)["c"] is second["c"]


@pytest.mark.parametrize("other", ["sign of zero", "one in the middle", "number type", "shape"])
def test_arrays_that_differ_in_a_bit_stay_apart(other: str) -> None:
    array = np.zeros((2, SIZE), np.float32)
    changed = array.copy()
    if other == "sign of zero":
        changed[1, -2] = -0.0
    elif other == "one in the middle":
        changed[1, SIZE // 2 + 1] = 1
    changed = {"number type": changed.view(np.int32), "shape": changed.reshape(-1)}.get(other, changed)
    shared = SharedArrays()
    first, second = shared.of(ClientState({"a": array})), shared.of(ClientState({"a": changed}))
    assert not np.shares_memory(first["a"], second["a"])
    assert second["a"].tobytes() == changed.tobytes() and second["a"].dtype == changed.dtype
    assert second["a"].shape == changed.shape


def test_numbers_that_are_none_are_equal_by_their_bits() -> None:
    shared, array = SharedArrays(), np.full(SIZE, np.nan)
    assert len({id(own["a"]) for own in [shared.of(ClientState({"a": array.copy()})) for _ in range(3)]}) == 1


def test_small_arrays_are_left_as_they_are_and_single_ones_are_not_copied() -> None:
    small, large = np.zeros(LEAST // 8 - 1), np.arange(SIZE)
    state = SharedArrays().of(ClientState({"small": small, "large": large}))
    assert state["small"] is small and small.flags.writeable
    assert np.shares_memory(state["large"], large)


def test_it_keeps_nothing_alive() -> None:
    shared = SharedArrays()
    state = shared.of(ClientState({"a": np.arange(SIZE)}))
    seen = weakref.ref(state["a"])
    del state
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("clients", [1000, 1001])
def test_arrays_of_which_all_clients_have_too_many_bytes_are_in_files_that_end_with_them(
    clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    monkeypatch.setattr(paging, "IN_MEMORY", 1000 * array.nbytes)
    gc.collect()
    shared, before = SharedArrays(clients), len(paging._MAPS)
    states = [shared.of(ClientState({"own": array + i, "small": np.zeros(3)})) for i in range(5)]
    assert (len(paging._MAPS) > before) == (clients > 1000)
    paging.give_back()
    for i, state in enumerate(states):
        assert state["own"].tobytes() == (array + i).tobytes() and state["small"].flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            state["own"][0] = 1
    assert shared.of(ClientState({"own": array + 3}))["own"] is states[3]["own"]
    del shared, state
    states.clear()
    gc.collect()
    assert len(paging._MAPS) == before


def averaged(clients: int) -> tuple[list[ClientState], int]:
    """Clients' states after a mean, and how often a message with the mean in it was encoded."""
    encoded, encode = [], wire.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "encode", lambda arrays, **how: encoded.append(arrays) or encode(arrays, **how))
        rng = np.random.default_rng(0)
        names = [f"c{i:03d}" for i in range(clients)]
        base = np.zeros(SIZE, np.float32)
        states = {
            name: with_base(ClientState(), "p", base).replace(p=rng.standard_normal(SIZE).astype(np.float32))
            for name in names
        }
        driver = toy_driver(states, Toy(aggregator=PlainMean()))
        driver.run(driver.algorithm.aggregator.mean(Cohort(dict.fromkeys(names, 1), 1, 0), "p"))
    return list(driver.states.values()), sum("total" in arrays for arrays in encoded)


@pytest.mark.parametrize("clients", [3, 60])
def test_after_a_mean_all_clients_have_one_array_and_what_they_were_sent_was_encoded_once(clients: int) -> None:
    states, encoded = averaged(clients)
    assert len({id(state[slot]) for state in states for slot in ("p", "p.base")}) == 1
    assert encoded == 1


def test_a_checkpoint_looks_once_at_what_states_share(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, sha256 = [], checkpoint.sha256
    monkeypatch.setattr(checkpoint, "sha256", lambda data: hashed.append(data.nbytes) or sha256(data))
    states = {f"c{i}": state for i, state in enumerate(averaged(60)[0])}
    given = checkpoint.TrainingState(checkpoint.ServerState(), states, np.zeros((60, 1)), np.zeros(60))
    checkpoint.save_checkpoint(tmp_path / "one", given, "run")
    assert sum(size >= LEAST for size in hashed) == 2  # once as the value, once as its base
    loaded = checkpoint.load_checkpoint(tmp_path / "one", "run")
    assert loaded is not None
    for name, state in states.items():
        assert all(loaded.clients[name][slot].tobytes() == array.tobytes() for slot, array in state.arrays.items())
    assert np.shares_memory(loaded.clients["c0"]["p"], loaded.clients["c59"]["p"])
