from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

import secfpp
from secfpp import CoOpLocal, FolderSettings, LocalTraining, Personalizer, SecFPP
from secfpp.errors import ConfigError, DataError, NotFittedError
from secfpp.experiment.run.machine import resident_memory
from secfpp.models.backbone import load_backbone
from support.picture_folders import picture, picture_tree
from support.tiny_clip import TinyClip

CLIENTS = ("a", "b", "c", "d")
CLASSES = ("bird", "cat", "dog")
QUICK = {"steps": 5, "batch": 12}
BY_FEATURES = {"descriptor": "features", "clusterer": {"kind": "plain_kmeans"}, "training": QUICK}
PROMPTS = {"class_means": {"levels": "none"}, "effort": 1.0, **BY_FEATURES}
"""Settings of `secfpp` without class means, which tell these pictures apart at once."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clients; a and b have two of the three classes."""
    held = {"a": ("cat", "dog"), "b": ("cat", "bird"), "c": CLASSES, "d": CLASSES}
    root = tmp_path_factory.mktemp("data") / "photos"
    return picture_tree(root, {f"{client}/{name}": 8 for client, names in held.items() for name in names})


@pytest.fixture(scope="module")
def data(photos: Path) -> secfpp.FederatedDataset:
    return secfpp.load_folder(FolderSettings(root=str(photos), size=32))


@pytest.fixture(scope="module")
def fitted(backbone: Any, data: secfpp.FederatedDataset) -> Personalizer:
    return Personalizer("secfpp", rounds=6, backbone=backbone, **PROMPTS).fit(data)


def test_what_is_learned_has_names_and_shapes(fitted: Personalizer, backbone: Any) -> None:
    assert (fitted.clients_, fitted.classes_) == (CLIENTS, CLASSES)
    assert list(fitted.prompts_) == list(CLIENTS)
    assert fitted.clusters_ == dict.fromkeys(CLIENTS, 0)  # four are the smallest group
    assert fitted.result_.rounds == 6 and fitted.result_.method == "secfpp"
    assert fitted.backbone_ is backbone
    prompt = fitted.prompts_["b"]
    assert (prompt.client, prompt.method, prompt.image_size, prompt.classes) == ("b", "secfpp", 32, CLASSES)
    np.testing.assert_array_equal(prompt.prompt, fitted.result_.prompts[1])


def test_a_table_will_do_and_deep_greys_are_read_as_in_training(backbone: Any, tmp_path: Path) -> None:
    rows = [(client, name, i) for client in "ab" for name in ("cat", "dog") for i in range(4)]
    for client, name, i in rows:
        value = {"cat": 300, "dog": 4000}[name] + i
        Image.fromarray(np.full((32, 32), value, np.uint16)).save(tmp_path / f"{client}{name}{i}.png")
    text = "".join(f"{client}{name}{i}.png,{name},{client}\n" for client, name, i in rows)
    (tmp_path / "greys.csv").write_text(f"path,label,client\n{text}")
    model = Personalizer("coop_local", rounds=1, backbone=backbone, prompt={"n_ctx": 2})
    with pytest.warns(secfpp.DataWarning, match="4003 the largest"):
        model.fit(tmp_path / "greys.csv")
    assert model.clients_ == ("a", "b")
    dark = tmp_path / "acat0.png"  # alone it would look as if it used 10 bits
    expected = model.predict_proba("a", np.full((224, 224, 3), round(300 / 4095 * 255), np.uint8))
    np.testing.assert_array_equal(model.predict_proba("a", dark), expected)
    alike = np.full((1, 224, 224, 3), round(300 / 4095 * 255), np.uint8)
    assert model.novelty("a", dark) == model.novelty("a", alike)
    model.prompts_["a"].save(tmp_path / "a.safetensors")
    kept = secfpp.load_prompt(tmp_path / "a.safetensors")
    assert kept.grey_window == (0, 4095)
    np.testing.assert_array_equal(kept.predict_proba(dark, backbone=backbone), expected)


def test_it_learns_to_tell_colours_apart(fitted: Personalizer, data: Any, backbone: Any) -> None:
    floor = Personalizer("zero_shot", backbone=backbone).fit(data)
    assert floor.clusters_ is None
    assert fitted.score(data) > floor.score(data) + 0.1


def test_the_score_is_the_one_of_the_training(fitted: Personalizer, data: Any) -> None:
    assert fitted.scores(data) == pytest.approx(fitted.metrics_["own"])
    assert fitted.score(data) == pytest.approx(fitted.result_.metrics["own"].mean() / 100)
    assert all(0 <= value <= 1 for value in fitted.metrics_["own_domain"].values())


def test_predictions_are_those_of_the_clients_prompt(fitted: Personalizer, photos: Path, tmp_path: Path) -> None:
    image = photos / "a" / "cat" / "000.png"
    scores = fitted.predict_proba("a", [image, str(image)])
    assert scores.shape == (2, 3) and scores.sum(1) == pytest.approx(1)
    assert fitted.predict("a", image) == [CLASSES[scores[0].argmax()]]
    assert len(fitted.predict("a", photos / "c")) == 24
    fitted.prompts_["a"].save(tmp_path / "a.safetensors")
    again = secfpp.load_prompt(tmp_path / "a.safetensors")
    np.testing.assert_allclose(again.predict_proba(image, backbone=fitted.backbone_), scores[:1], atol=1e-6)
    assert not np.allclose(fitted.predict_proba("a", image, prior="uniform"), scores[:1])
    assert fitted.predict("a", image, prior="uniform")[0] in CLASSES


def test_images_unlike_those_of_a_client_are_told(fitted: Personalizer, photos: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    assert fitted.unlike_training("a", noise).mean() > 0.8
    assert fitted.unlike_training("a", photos / "a").mean() < 0.15
    fitted.prompts_["a"].save(tmp_path / "a")
    np.testing.assert_array_equal(
        secfpp.load_prompt(tmp_path / "a").novelty(noise, backbone=fitted.backbone_), fitted.novelty("a", noise)
    )


MEANS = {"levels": "own"}


@pytest.mark.parametrize(
    ("method", "settings", "levels", "visual"),
    [
        ("secfpp", PROMPTS, 2, False),
        ("class_means_local", {}, 1, True),
        ("coop_local", {"class_means": MEANS, "training": QUICK}, 1, True),
        ("secfpp", {"class_means": MEANS, **BY_FEATURES}, 2, True),
        ("secfpp", {"training": QUICK}, 2, True),
    ],
    ids=["secfpp, prompts", "class means", "coop and means", "secfpp, own means", "secfpp"],
)
def test_saved_prompts_predict_as_the_training_measured(
    method: str,
    settings: dict[str, Any],
    levels: int,
    visual: bool,
    backbone: Any,
    data: Any,
    tmp_path: Path,
) -> None:
    fitted = Personalizer(method, rounds=4, backbone=backbone, **settings).fit(data)
    for client in data.clients:
        fitted.prompts_[client.name].save(tmp_path / "a.safetensors")
        prompt = secfpp.load_prompt(tmp_path / "a.safetensors")
        assert (prompt.domain_prompt is not None) == (levels == 2)
        assert np.shape(prompt.visual_weights)[:2] == ((levels, 3) if visual else ())
        test = data.test[client.domain]
        scores = {
            prior: prompt.predict_proba(test.images, backbone=backbone, prior=prior) for prior in ("own", "uniform")
        }
        of_class = {
            prior: [(found.argmax(1) == test.labels)[test.labels == label].mean() for label in np.unique(test.labels)]
            for prior, found in scores.items()
        }
        weights = client.train.histogram(len(CLASSES))[np.unique(test.labels)]
        measured = {name: values[client.name] for name, values in fitted.metrics_.items()}
        assert np.average(of_class["own"], weights=weights) == pytest.approx(measured["own"])
        assert np.average(of_class["uniform"], weights=weights) == pytest.approx(measured["own_no_prior"])
        assert np.mean(of_class["uniform"]) == pytest.approx(measured["own_domain"])
        less = prompt.without_visual() if visual else prompt.one_level()  # what an earlier reader would have said
        found = less.predict_proba(test.images, backbone=backbone, prior="uniform")
        assert np.abs(found - scores["uniform"]).max() > 1e-3


def test_a_class_that_the_client_never_has_is_less_likely_for_it(fitted: Personalizer, tmp_path: Path) -> None:
    grey = picture(tmp_path / "x.png")
    bird = CLASSES.index("bird")
    own, uniform = (fitted.predict_proba("a", grey, prior=prior)[0, bird] for prior in ("own", "uniform"))
    assert own < uniform / 5


def test_scores_of_fewer_clients_and_classes(fitted: Personalizer, photos: Path, backbone: Any, tmp_path: Path) -> None:
    picture_tree(tmp_path, {"a/cat": 9, "a/dog": 9})
    assert list(fitted.scores(tmp_path)) == ["a"]
    picture_tree(tmp_path, {"a/fish": 9, "zoo/cat": 9, "zoo/dog": 9})
    with pytest.raises(DataError, match="not known from fit: zoo, fish"):
        fitted.score(tmp_path)


def test_a_folder_can_be_fitted_directly(photos: Path, backbone: Any) -> None:
    settings = FolderSettings(root=str(photos), size=32)
    by_settings = Personalizer("coop_local", rounds=1, backbone=backbone, seed=3, training=QUICK).fit(settings)
    loaded = Personalizer("coop_local", rounds=1, backbone=backbone, seed=3, training=QUICK).fit(
        secfpp.load_folder(settings, seed=3)
    )
    np.testing.assert_array_equal(by_settings.result_.prompts, loaded.result_.prompts)
    by_path = Personalizer("zero_shot", backbone=backbone).fit(str(photos))
    assert by_path.prompts_["a"].image_size == 224


def test_the_same_parameters_give_the_same_prompts_and_rounds_can_be_watched(data: Any, backbone: Any) -> None:
    seen: list[int] = []
    first, second = (
        Personalizer(rounds=4, backbone=backbone, training=QUICK).fit(data, on_round=lambda r: seen.append(r.round))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.result_.prompts, second.result_.prompts)
    assert seen == [1, 2, 1, 2]


def test_settings_reach_the_method_however_they_are_given(data: Any, backbone: Any) -> None:
    runs = [
        Personalizer("coop_local", rounds=1, backbone=backbone, training={"steps": 2, "batch": 4}),
        Personalizer("coop_local", rounds=1, backbone=backbone, training=LocalTraining(steps=2, batch=4)),
        Personalizer(CoOpLocal(training=LocalTraining(steps=2, batch=4)), rounds=1, backbone=backbone),
        Personalizer(CoOpLocal(training=LocalTraining(batch=4)), rounds=1, backbone=backbone, training={"steps": 2}),
    ]
    prompts = [run.fit(data).result_.prompts for run in runs]
    for other in prompts[1:]:
        np.testing.assert_array_equal(prompts[0], other)
    usual = Personalizer("coop_local", rounds=1, backbone=backbone).fit(data)
    assert not np.array_equal(prompts[0], usual.result_.prompts)


def test_the_kind_alone_and_variants_reach_the_method(data: Any, backbone: Any) -> None:
    by_kind = {"descriptor": "features", "training": QUICK, "aggregator": "plain", "poll": "plain"}
    runs = [
        Personalizer("secfpp", rounds=2, backbone=backbone, clusterer="plain_kmeans", **by_kind),
        Personalizer("secfpp", rounds=2, backbone=backbone, clusterer={"kind": "plain_kmeans"}, **by_kind),
        Personalizer("secfpp+features", rounds=2, backbone=backbone, training=QUICK, aggregator="plain"),
    ]
    prompts = [run.fit(data).result_.prompts for run in runs]
    for other in prompts[1:]:
        np.testing.assert_array_equal(prompts[0], other)
    assert [run.result_.method for run in runs] == ["secfpp", "secfpp", "secfpp+features"]
    assert runs[2].prompts_["a"].method == "secfpp+features"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"method": "secfp"}, "method = 'secfp': unknown method; did you mean 'secfpp'?"),
        ({"method": 3}, "method = 3: unknown method"),
        ({"method": "secfpp+claer"}, r"method = 'secfpp\+claer': unknown method; did you mean 'secfpp\+clear'\?"),
        ({"method": "secfpp+clear", "local_lr": -1}, "method.local_lr = -1.*: must not be negative"),
        ({"clusterer": "orcale"}, "method.clusterer.kind = 'orcale': unknown kind; did you mean 'oracle'"),
        ({"clusterer": 3}, 'method.clusterer = 3: should be a table of settings: {"kind": "one"}, or the kind alone'),
        ({"local_rl": 0.1}, "method.local_rl = 0.1: unknown key; did you mean 'local_lr'?"),
        ({"local_lr": "much"}, "method.local_lr = 'much'"),
        ({"local_lr": -1}, "method.local_lr = -1.*: must not be negative"),
        ({"training": {"steps": 0}}, "method.training.steps = 0: at least 1"),
        ({"method": SecFPP(), "training": {"setps": 3}}, "did you mean 'steps'"),
        ({"rounds": 0}, "rounds = 0: a whole number, at least 1"),
        ({"rounds": 2.5, "seed": -1}, "rounds = 2.5: .*\nseed = -1: "),
    ],
)
def test_bad_parameters_are_named_by_fit_before_any_work(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Personalizer(**{"backbone": "no such model", **parameters}).fit("no such folder")


@pytest.mark.parametrize(("method", "enough"), [("secfpp", False), ("secfpp_paper", False), ("promptfl", True)])
def test_three_clients_are_told_what_they_can_do(method: str, enough: bool, backbone: Any, tmp_path: Path) -> None:
    picture_tree(tmp_path, {f"{client}/{name}": 4 for client in "abc" for name in ("cat", "dog")})
    model = Personalizer(method, rounds=1, backbone=backbone, training=QUICK)
    if enough:
        assert model.fit(tmp_path).clients_ == ("a", "b", "c")
        return
    with pytest.raises(
        ConfigError, match=r"clients = 3: .* groups of at least 4.*bring more clients.*coop_local"
    ) as caught:
        model.fit(tmp_path)
    advice = str(caught.value).rpartition("protection: ")[2]
    settings = eval(f"dict({advice})")
    assert model.set_params(**settings).fit(tmp_path).clusters_ == {"a": 0, "b": 0, "c": 0}
    assert Personalizer("coop_local", rounds=1, backbone=backbone).fit(tmp_path).clients_ == ("a", "b", "c")


def test_an_unknown_client_is_named_with_the_nearest(fitted: Personalizer) -> None:
    with pytest.raises(ConfigError, match=r"client = 'e': unknown client.* Known: a, b, c, d"):
        fitted.predict("e", np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", ["clients_", "classes_", "prompts_", "clusters_", "metrics_", "result_", "backbone_"])
def test_before_training_there_is_nothing_and_it_says_so(name: str) -> None:
    model = Personalizer()
    with pytest.raises(NotFittedError, match=rf"{name} is known after training: call fit\(data\) first"):
        getattr(model, name)
    assert not hasattr(model, name)
    for call in (lambda: model.predict("a", "x.png"), lambda: model.score("nowhere")):
        with pytest.raises(NotFittedError):
            call()
    with pytest.raises(AttributeError, match="no attribute 'nothing_'"):
        model.nothing_  # noqa: B018


def test_parameters_are_kept_untouched_and_can_be_changed() -> None:
    table = {"steps": 3}
    model = Personalizer("secfpp", rounds=5, training=table)
    assert model.get_params() == {"method": "secfpp", "rounds": 5, "backbone": "mini", "seed": 0, "training": table}
    assert model.get_params(deep=False)["training"] is table
    assert model.set_params(rounds=7, local_lr=0.1) is model
    assert (model.rounds, model.get_params()["local_lr"]) == (7, 0.1)


def test_scikit_learn_can_clone_it_and_copies_do_not_share_settings(fitted: Personalizer) -> None:
    twin = clone(Personalizer(SecFPP(local_lr=0.5), seed=4, training={"steps": 3}))
    assert twin.get_params() == {
        "method": SecFPP(local_lr=0.5), "rounds": 20, "backbone": "mini", "seed": 4, "training": {"steps": 3},
    }  # fmt: skip
    again = copy.copy(fitted).set_params(rounds=9, local_lr=0.7)
    assert (fitted.rounds, "local_lr" in fitted.get_params()) == (6, False)
    assert again.clients_ == CLIENTS


def test_it_shows_what_differs_from_the_defaults(fitted: Personalizer, backbone: Any) -> None:
    assert repr(Personalizer()) == "Personalizer('secfpp')"
    assert repr(Personalizer("promptfl", rounds=3, logit_adjustment=1.0)) == (
        "Personalizer('promptfl', rounds=3, logit_adjustment=1.0)"
    )
    named = repr(backbone.spec.name)
    assert repr(Personalizer(SecFPP(), backbone=backbone)) == f"Personalizer(SecFPP(...), backbone={named})"


def many(data: secfpp.FederatedDataset) -> secfpp.FederatedDataset:
    """Twice the clients, enough for two groups."""
    return replace(data, clients=(*data.clients, *(replace(client, name=f"{client.name}2") for client in data.clients)))


def test_memory_is_told_before_training(data: Any, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = list[str]()
    monkeypatch.setattr("secfpp.experiment.run.memory.WORTH_TELLING", 1)
    monkeypatch.setattr("secfpp.personalizer.train", lambda *args, **settings: trained.append("") or 1 / 0)
    with (
        pytest.warns(secfpp.MemoryWarning, match="grouping 8 clients on shares takes about .* of memory") as said,
        pytest.raises(ZeroDivisionError),
    ):
        Personalizer(backbone=backbone).fit(many(data))
    assert len(said) == 1 and len(trained) == 1
    with pytest.raises(ZeroDivisionError):  # nothing is grouped on shares, and nothing told
        Personalizer("secfpp+clear", backbone=backbone).fit(many(data))


def test_much_noise_is_told_before_training(data: Any, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.personalizer.train", lambda *args, **settings: 1 / 0)
    with (
        pytest.warns(secfpp.NoiseWarning, match=r"epsilon = 8, noise on an average of 8 clients .* would do") as said,
        pytest.raises(ZeroDivisionError),
    ):
        Personalizer("promptfl+client_dp", backbone=backbone).fit(many(data))
    assert len(said) == 1


def test_more_memory_than_the_machine_has_is_refused_before_training(
    data: Any, backbone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secfpp.experiment.run.memory.total_memory", lambda: resident_memory() + 2**20)
    monkeypatch.setattr("secfpp.personalizer.train", lambda *args, **settings: 1 / 0)
    with pytest.raises(ConfigError, match=r"clusterer\.restarts = 192: .*this machine has .* \"plain_agreement\""):
        Personalizer(backbone=backbone).fit(many(data))
