"""A fitted `Personalizer` in a file, in a pickle, in a copy."""

from __future__ import annotations

import copy
import json
import pickle
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from sklearn.base import clone

import secfpp
from secfpp import FolderSettings, LocalTraining, Personalizer, SecFPP
from secfpp.errors import ConfigError, DataError, NotFittedError
from secfpp.models import backbone as backbones
from secfpp.models.backbone import load_backbone
from secfpp.models.devices import device_named
from secfpp.storage import read_arrays
from support.picture_folders import picture_tree
from support.tiny_clip import TinyClip

QUICK = LocalTraining(steps=np.int64(5), batch=12)
RUNS = {
    "secfpp": {"descriptor": "features", "clusterer": "plain_kmeans", "training": QUICK, "poll": "plain"},
    "secfpp+features": {"training": {"steps": 5}, "aggregator": "plain"},
    "coop_local+means": {"training": QUICK},
    "class_means_local": {},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyClip().save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = picture_tree(tmp_path_factory.mktemp("photos"), {f"{c}/{n}": 8 for c in "abcd" for n in ("cat", "dog")})
    return replace(secfpp.load_folder(FolderSettings(root=str(root), size=32)), grey_window=(0.0, 4095.0))


@pytest.fixture(scope="module", params=RUNS)
def fitted(request: Any, tiny: Path, data: Any) -> Personalizer:
    backbone = load_backbone(str(tiny), device="cpu")
    return Personalizer(request.param, rounds=np.int64(2), backbone=backbone, **RUNS[request.param]).fit(data)


def assert_the_same(again: Personalizer, fitted: Personalizer, data: Any) -> None:
    assert (again.clients_, again.classes_, again.clusters_) == (fitted.clients_, fitted.classes_, fitted.clusters_)
    assert repr(again.metrics_) == repr(fitted.metrics_)  # equal, not-a-number included
    assert again.scores(data) == fitted.scores(data)
    for client, prompt in fitted.prompts_.items():
        assert {n: np.array(v).tolist() for n, v in vars(again.prompts_[client]).items()} == {
            n: np.array(v).tolist() for n, v in vars(prompt).items()
        }
        np.testing.assert_array_equal(
            again.predict_proba(client, data.test["a"].images), fitted.predict_proba(client, data.test["a"].images)
        )
    assert again.result_.rows == fitted.result_.rows and again.result_.costs == fitted.result_.costs
    assert {prompt.grey_window for prompt in again.prompts_.values()} == {(0.0, 4095.0)}


def test_it_can_be_saved_and_loaded(fitted: Personalizer, data: Any, tmp_path: Path) -> None:
    path = tmp_path / "clinic.safetensors"
    fitted.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Personalizer.load(path)
    assert_the_same(again, fitted, data)
    assert again._algorithm() == fitted._algorithm()
    assert (again.rounds, again.seed, again.backbone) == (2, 0, fitted.backbone_.spec.name)
    assert Personalizer.load(path, backbone=fitted.backbone_).backbone_ is fitted.backbone_
    again.save(tmp_path / "again")
    assert read_arrays(tmp_path / "again")[1] == read_arrays(path)[1]


def test_it_can_be_pickled(fitted: Personalizer, data: Any) -> None:
    content = pickle.dumps(fitted)
    again = pickle.loads(content)
    assert_the_same(again, fitted, data)
    assert again.backbone_ is again.backbone is not fitted.backbone_  # one model, loaded anew
    assert len(content) < 100_000  # no weights
    assert pickle.loads(pickle.dumps(Personalizer("promptfl", rounds=3))).get_params()["rounds"] == 3


def test_copies_and_clones_share_the_model_and_nothing_else(fitted: Personalizer, data: Any) -> None:
    again = copy.deepcopy(fitted)
    assert again.backbone_ is fitted.backbone_ and again.result_.prompts is not fitted.result_.prompts
    assert_the_same(again, fitted, data)
    unfitted = clone(fitted)
    assert unfitted.backbone is fitted.backbone and not hasattr(unfitted, "result_")
    assert unfitted._algorithm() == fitted._algorithm()


def test_a_method_given_as_an_object_comes_back_equal(tiny: Path, data: Any, tmp_path: Path) -> None:
    method = secfpp.CoOpLocal(training=QUICK, logit_adjustment=0.5)
    Personalizer(method, rounds=1, backbone=str(tiny)).fit(data).save(tmp_path / "a")
    again = Personalizer.load(tmp_path / "a")
    assert again.method == method and again.fit(data).clients_ == ("a", "b", "c", "d")


def test_another_model_under_the_name_is_refused(tmp_path: Path, data: Any) -> None:
    folder = TinyClip().save(tmp_path / "tiny")
    fitted = Personalizer("zero_shot", backbone=str(folder)).fit(data)
    fitted.save(tmp_path / "a")
    content = pickle.dumps(fitted)
    TinyClip(seed=5).save(folder)
    for read in (lambda: Personalizer.load(tmp_path / "a"), lambda: pickle.loads(content)):
        with pytest.raises(DataError, match=r"was learned for the model '.*/tiny' .* is another one"):
            read()
    with pytest.raises(DataError, match="is another one"):
        Personalizer.load(tmp_path / "a", backbone=load_backbone(str(folder)))


def test_a_pickled_model_goes_where_there_is_a_place_for_it(tiny: Path, tmp_path: Path) -> None:
    model = load_backbone(str(tiny), device="cpu", dtype="bfloat16", cache_dir=tmp_path)
    again = pickle.loads(pickle.dumps(model))
    assert (again.dtype, again.device, again._cache) == (model.dtype, model.device, model._cache)
    name, digest, _, dtype, folder, keeps, compiled = model.__reduce__()[1]
    elsewhere = backbones._again(name, digest, "cuda:99", dtype, folder, keeps, compiled)  # trained elsewhere
    assert elsewhere.device == device_named("auto")


def test_before_training_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match=r"nothing to save before training: call fit\(data\) first"):
        Personalizer(SecFPP()).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_other_files_are_refused(tiny: Path, data: Any, tmp_path: Path) -> None:
    fitted = Personalizer("zero_shot", backbone=str(tiny)).fit(data)
    fitted.save(tmp_path / "a")
    fitted.prompts_["a"].save(tmp_path / "prompt")
    with pytest.raises(DataError, match=r"prompt: not a saved Personalizer, .*read by load_prompt"):
        Personalizer.load(tmp_path / "prompt")
    with pytest.raises(DataError, match=r"none: .*give a file that Personalizer.save wrote"):
        Personalizer.load(tmp_path / "none")
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-10])
    with pytest.raises(DataError, match="cut: not a saved Personalizer, or a damaged one"):
        Personalizer.load(tmp_path / "cut")


def test_a_method_that_is_not_installed_is_named(tiny: Path, data: Any, tmp_path: Path) -> None:
    Personalizer(secfpp.ZeroShot(), backbone=str(tiny)).fit(data).save(tmp_path / "a")
    with safe_open(tmp_path / "a", framework="numpy") as file:
        arrays, about = (
            {name: file.get_tensor(name) for name in list(file.keys())},
            json.loads(file.metadata()["secfpp"]),
        )
    about["parameters"]["method"]["name"] = "elsewhere"
    (tmp_path / "a").write_bytes(save(arrays, metadata={"secfpp": json.dumps(about)}))
    with pytest.raises(ConfigError, match="method = 'elsewhere': unknown method"):
        Personalizer.load(tmp_path / "a")
