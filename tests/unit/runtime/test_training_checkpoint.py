import numpy as np
import pytest

from secfpp.algorithms.base import ServerState
from secfpp.protocol.program import ClientState
from secfpp.runtime.checkpoint import TrainingState, load_checkpoint, save_checkpoint


def states(count, rng):
    shared = rng.standard_normal(5_000)
    return {
        f"c{i}": ClientState(
            {
                "base": shared.copy(),
                "count": np.array(i % 2),
                "own": rng.standard_normal((2, 3)).astype(np.float32),
                "history": rng.standard_normal((i % 3, 2)),
                **({"late": np.array([-0.0 if i % 2 else 0.0, np.nan])} if i > 1 else {}),
            }
        )
        for i in range(count)
    }


def saved(path, clients):
    save_checkpoint(path, TrainingState(ServerState(), clients, np.zeros((len(clients), 1)), np.zeros(1)), "run")
    return path


def test_every_client_gets_its_arrays_back_and_nobody_elses(tmp_path):
    given = states(7, np.random.default_rng(0))
    loaded = load_checkpoint(saved(tmp_path / "a", given), "run").clients
    assert list(loaded) == list(given)
    for name, state in given.items():
        assert loaded[name].arrays.keys() == state.arrays.keys()
        for slot, array in state.arrays.items():
            found = loaded[name][slot]
            assert (found.dtype, found.shape) == (array.dtype, array.shape) and found.tobytes() == array.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        loaded["c2"]["base"][:] = 0


def test_what_clients_share_is_kept_once(tmp_path):
    rng = np.random.default_rng(0)
    few, many = (saved(tmp_path / str(n), states(n, rng)).stat().st_size for n in (10, 40))
    assert many - few < 30 * 500 and few > 40_000
