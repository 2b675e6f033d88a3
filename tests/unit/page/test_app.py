"""`POST /predict` and the page around it, as a browser and other software meet them."""

from __future__ import annotations

import base64
import logging
import tempfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from secfpp.models.prompt_file import ClientPrompt
from secfpp.page import upload
from secfpp.page.answers import Answer, Prediction
from secfpp.page.app import make_app
from secfpp.page.classifier import Classifier, Examples
from support.picture_folders import picture_tree

HERE = "http://127.0.0.1:8765"


def picture(colour: tuple[int, int, int] = (200, 40, 40), kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def grey(largest: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.linspace(0, largest, 1200).reshape(30, 40).astype(np.uint16)).save(file, "TIFF")
    return file.getvalue()


def browse(classifier: Classifier, **options: Any) -> TestClient:
    return TestClient(make_app(classifier), base_url=HERE, **options)


@pytest.fixture
def client(prompt: ClientPrompt, backbone: Any) -> TestClient:
    return browse(Classifier(prompt, backbone))


def send(client: TestClient, *files: tuple[str, bytes], **query: Any) -> Any:
    return client.post("/predict", files=[("images", file) for file in files], params=query)


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    error: str = response.json()["error"]
    return error


def test_answers_are_those_of_the_prompt(client: TestClient, prompt: ClientPrompt, backbone: Any) -> None:
    images = [((200, 40, 40), "PNG"), ((30, 160, 90), "JPEG"), ((104, 104, 104), "BMP")]
    contents = [picture(*image) for image in images]
    names = ["a.png", "b.jpg", "ü <b>.bmp"]
    response = send(client, *zip(names, contents, strict=True))
    answer = Answer.model_validate_json(response.content)
    opened = [Image.open(BytesIO(content)) for content in contents]
    scores = prompt.predict_proba(opened, backbone=backbone)
    novelty = prompt.novelty(opened, backbone=backbone)
    assert response.status_code == 200
    assert (answer.client, answer.prior, answer.novelty_threshold) == ("hospital-a", "own", 2.0)
    assert [found.image for found in answer.images] == names
    for found, row, value in zip(answer.images, scores, novelty, strict=True):
        assert isinstance(found, Prediction)
        assert found.label == prompt.classes[row.argmax()] == found.top[0].label
        assert {each.label: each.probability for each in found.top} == pytest.approx(
            dict(zip(prompt.classes, row.tolist(), strict=True)), abs=1e-5
        )
        listed = [each.probability for each in found.top]
        assert listed == sorted(listed, reverse=True)
        assert found.novelty == pytest.approx(value, abs=1e-4)
        assert found.unlike_training is bool(value > 2)
        assert (found.neighbours, found.picture, found.warning) == ([], None, None)
    assert {found["unlike_training"] for found in response.json()["images"]} == {False, True}


def test_a_prior_can_be_chosen_and_novelty_be_unknown(plain: ClientPrompt, backbone: Any) -> None:
    client = browse(Classifier(plain, backbone, "uniform"))
    answer = send(client, ("a.png", picture())).json()
    expected = plain.predict_proba(Image.open(BytesIO(picture())), backbone=backbone, prior="uniform")[0]
    assert answer["images"][0]["probability"] == pytest.approx(expected.max(), abs=1e-5)
    assert (answer["prior"], answer["novelty_threshold"]) == ("uniform", None)
    assert (answer["images"][0]["novelty"], answer["images"][0]["unlike_training"]) == (None, None)
    assert "names a class for whatever" in client.get("/").text


def test_a_wrong_file_keeps_no_other_from_an_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, plain: ClientPrompt
) -> None:
    monkeypatch.setattr("secfpp.images.MOST_PIXELS", 10_000)
    files = [
        ("notes.txt", b"hello"),
        ("cut.png", picture()[:60]),
        ("none.png", b""),
        ("bomb.png", picture(size=(101, 100))),
        ("deep.tif", grey(3000)),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"),
        ("good.png", picture()),
    ]
    *failed, good = send(client, *files).json()["images"]
    errors = {each["image"]: each["error"] for each in failed}
    assert good["image"] == "good.png" and good["label"] in plain.classes
    assert {errors[name] for name in ("notes.txt", "cut.png", "none.png", "vector.eps")} == {"damaged, or not an image"}
    assert errors["bomb.png"] == "101 x 100 pixels, at most 10,000 in all are read; shrink it"
    assert "--grey-window LOW HIGH" in errors["deep.tif"]


def test_nothing_but_wrong_files_is_answered_too(client: TestClient) -> None:
    response = send(client, ("a", b"x"), ("b", b"y"))
    assert response.status_code == 200
    assert [each["image"] for each in response.json()["images"]] == ["a", "b"]


def test_deep_grey_values_are_read_as_in_training(plain: ClientPrompt, backbone: Any) -> None:
    trained = replace(plain, grey_window=(0.0, 4095.0))
    known, stated = (Classifier(trained, backbone, grey_window=window) for window in (None, (0.0, 3000.0)))
    inside, beyond = send(browse(known), ("a.tif", grey(3000)), ("b.tif", grey(60000)), picture=True).json()["images"]
    (other,) = send(browse(stated), ("a.tif", grey(3000))).json()["images"]
    assert inside["warning"] is None
    assert "what is above is cut" in beyond["warning"] and "as stated" in other["warning"]
    shown = Image.open(BytesIO(base64.b64decode(inside["picture"].partition(",")[2])))
    assert shown.size == (32, 32)
    assert np.asarray(shown).max() == pytest.approx(3000 / 4095 * 255, abs=4)


def test_less_can_be_asked_for(client: TestClient) -> None:
    (found,) = send(client, ("a.png", picture()), top=2).json()["images"]
    assert len(found["top"]) == 2


@pytest.mark.parametrize(
    "query", [{"top": 0}, {"top": "x"}, {"top": "9" * 30}, {"neighbours": -1}, {"neighbours": 21}, {"picture": 1}]
)
def test_parameters_that_cannot_be_are_named(client: TestClient, query: dict[str, Any]) -> None:
    (name,) = query
    assert name in refused(send(client, ("a.png", picture()), **query), 400)


def test_an_unknown_parameter_is_refused(client: TestClient) -> None:
    assert "'prior': no such parameter" in refused(send(client, ("a.png", picture()), prior="own"), 400)


def test_the_closest_examples_come_first(plain: ClientPrompt, backbone: Any, folder: Path) -> None:
    picture_tree(folder, {"cat": 2, "big_bird": 2, "ward/dog/2024": 1, "elsewhere": 1})
    examples = Examples.of(folder, plain, backbone)
    assert examples.labels == ("big bird", "big bird", "cat", "cat", "elsewhere", "dog")
    client = browse(Classifier(plain, backbone, examples=examples))
    content = (folder / "cat" / "001.png").read_bytes()
    (found,) = send(client, ("new.png", content), neighbours=3).json()["images"]
    first = found["neighbours"][0]
    assert (first["example"], first["label"]) == ("cat/001.png", "cat")
    assert first["similarity"] == pytest.approx(1, abs=1e-5)
    similar = [each["similarity"] for each in found["neighbours"]]
    assert len(similar) == 3 and similar == sorted(similar, reverse=True)
    shown = client.get(first["picture"])
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(shown.content)).size == (32, 32)
    assert "no example 6" in refused(client.get("/examples/6"), 404)
    (found,) = send(client, ("new.png", content)).json()["images"]
    assert found["neighbours"] == []


def test_too_many_images_are_refused(client: TestClient) -> None:
    files = [(f"{i}.png", b"x") for i in range(upload.MOST_IMAGES + 2)]
    assert send(client, *files[:-2]).status_code == 200
    for some in (files[:-1], files):
        assert "more than 64 images" in refused(send(client, *some), 413)


def test_too_many_bytes_are_refused_whether_said_or_not(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_BYTES", 10_000)
    assert "MB in one request" in refused(send(client, ("a.png", bytes(10_001))), 413)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    start = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    chunks = (part for part in (start, *(bytes(1000) for _ in range(20)), b"\r\n--x--\r\n"))
    assert "MB in one request" in refused(client.post("/predict", content=chunks, headers=kind), 413)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"json": {}}, 415, "multipart/form-data"),
        ({"data": {"images": "a"}}, 415, "multipart/form-data"),
        ({"files": [("pictures", ("a.png", b"x"))]}, 400, "field 'pictures'"),
        ({"files": [("images", (None, "text"))]}, 400, "field 'images'"),
        ({"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "no image"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "cannot be read"),
        ({"content": b"junk", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "cannot be read"),
    ],
)
def test_another_body_is_refused(client: TestClient, body: dict[str, Any], status: int, said: str) -> None:
    assert said in refused(client.post("/predict", **body), status)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_another_name_is_not_answered(client: TestClient, host: str) -> None:
    for ask in (client.get, client.post):
        assert "ask for 127.0.0.1 or localhost" in refused(ask("/predict", headers={"Host": host}), 400)


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:8000", "null"])
def test_other_pages_are_not_answered(client: TestClient, origin: str) -> None:
    response = client.post("/predict", files={"images": picture()}, headers={"Origin": origin})
    assert "other origins" in refused(response, 403)


def test_the_page_itself_is_answered(client: TestClient) -> None:
    for host in ("127.0.0.1:8765", "localhost:8765", "localhost"):
        headers = {"Origin": f"http://{host}", "Host": host}
        response = client.post("/predict", files={"images": ("a.png", picture())}, headers=headers)
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/openapi.json", "/nowhere", "/predict"])
def test_every_response_forbids_what_is_elsewhere(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in response.text and "https://" not in response.text


def test_names_in_a_prompt_are_text(plain: ClientPrompt, backbone: Any) -> None:
    hostile = replace(plain, client="<i>x</i>", domain="<script>")
    text = browse(Classifier(hostile, backbone)).get("/").text
    assert "&lt;i&gt;x" in text and "<i>" not in text and "&lt;script&gt;" in text


def test_nothing_of_an_image_is_kept_or_logged(
    client: TestClient, backbone: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    def no_file(*args: Any, **options: Any) -> Any:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    before = sorted(backbone._cache.folder.rglob("*"))
    caplog.set_level(logging.DEBUG)
    noise = np.random.default_rng(5).integers(0, 255, (1000, 1000, 3)).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "BMP")
    response = send(client, ("secret-name.bmp", file.getvalue()), ("secret-other.png", b"?"))
    assert [("label" in each) for each in response.json()["images"]] == [True, False]
    assert sorted(backbone._cache.folder.rglob("*")) == before
    out, err = capfd.readouterr()
    assert "secret" not in out + err + caplog.text


def test_an_unforeseen_error_tells_nothing(client: TestClient, prompt: ClientPrompt, backbone: Any) -> None:
    classifier = Classifier(prompt, backbone)
    classifier.answer = lambda *args, **options: 1 / 0  # type: ignore[method-assign]
    response = send(browse(classifier, raise_server_exceptions=False), ("a.png", picture()))
    assert refused(response, 500) == "the request could not be answered"


def test_the_document_says_what_is_answered(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    (operation,) = told["paths"]["/predict"].values()
    assert set(operation["responses"]) == {"200", "400", "403", "413", "415", "500"}
    assert {each["name"] for each in operation["parameters"]} == {"top", "neighbours", "picture"}
    schemas = told["components"]["schemas"]
    named = {"Answer", "Failure", "Neighbour", "Prediction", "Refusal", "Score"}
    assert set(schemas) == named
    (found, failed) = send(client, ("a.png", picture()), ("b.png", b"?")).json()["images"]
    assert set(schemas["Prediction"]["required"]) == set(found) and set(schemas["Failure"]["required"]) == set(failed)
