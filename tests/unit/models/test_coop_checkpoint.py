"""The layout is that of trainers/coop.py in KaiyangZhou/CoOp and of Dassl's save_model; both are imitated here."""

from __future__ import annotations

import functools
import io
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.coop_checkpoint import from_coop, to_coop
from secfpp.models.prompt_file import ClientPrompt
from support.tiny_clip import TinyClip

CLASSES = ("cat", "security icon", "dog")
N_CTX, LENGTH = 4, 20


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture
def prompt(backbone: Any) -> ClientPrompt:
    return ClientPrompt(
        prompt=np.random.default_rng(0).normal(size=(N_CTX, 32)).astype(np.float32),
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        log_prior=np.log(np.float32([0.5, 0.3, 0.2])),
        rounds=50,
    )


class Learner(nn.Module):
    """A prompt learner with the parameters and buffers of CoOp's, made from the tokens of ``X X X X name.``."""

    def __init__(self, backbone: Any, names: tuple[str, ...], ctx: torch.Tensor | None = None) -> None:
        super().__init__()
        self.ctx = nn.Parameter(torch.randn(N_CTX, 32) * 0.02 if ctx is None else ctx)
        texts = [" ".join(["X"] * N_CTX) + f" {name}." for name in names]
        rows = [[*backbone.embed(text, whole=True)] for text in texts]
        n_x = len(backbone.embed(" ".join(["X"] * N_CTX)))
        assert n_x == N_CTX
        whole = torch.stack([torch.stack(row + [torch.zeros(32)] * (LENGTH - len(row))) for row in rows])
        self.register_buffer("token_prefix", whole[:, :1])
        self.register_buffer("token_suffix", whole[:, 1 + N_CTX :])


class Warmup:
    """A schedule that keeps the next one as an attribute, as Dassl's do, so that objects get into the file."""

    def __init__(self, successor: Any) -> None:
        self.successor = successor

    def state_dict(self) -> dict[str, Any]:
        return {"warmup_epoch": 1, "cons_lr": 1e-5, "last_epoch": 50, "successor": self.successor}


def coop_writes(learner: Learner, path: Path, epoch: int = 50) -> Path:
    """Everything that a training with SGD and a cosine schedule leaves in its file."""
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.002, momentum=0.9)
    schedule = Warmup(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50.0))
    learner.ctx.sum().backward()
    optimiser.step()
    content = {
        "state_dict": learner.state_dict(),
        "epoch": epoch,
        "optimizer": optimiser.state_dict(),
        "scheduler": schedule.state_dict(),
        "val_result": None,
    }
    torch.save(content, path)
    return path


def coop_loads(path: Path, learner: Learner) -> int:
    """What CoOp's load_model does with a file."""
    checkpoint = torch.load(path, map_location="cpu")
    state = checkpoint["state_dict"]
    for name in ("token_prefix", "token_suffix"):
        if name in state:
            del state[name]
    missing, unexpected = learner.load_state_dict(state, strict=False)
    assert set(missing) == {"token_prefix", "token_suffix"} and not unexpected
    return int(checkpoint["epoch"])


def test_what_is_exported_coop_loads(prompt: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pth.tar-50"
    path.write_bytes(to_coop(prompt, backbone))
    learner = Learner(backbone, CLASSES)
    assert coop_loads(path, learner) == 50
    assert learner.ctx.detach().numpy().tobytes() == prompt.prompt.tobytes()


def test_the_fixed_embeddings_are_coops_own(prompt: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(to_coop(replace(prompt, class_template="{}."), backbone))
    state = torch.load(path)["state_dict"]
    theirs = Learner(backbone, CLASSES)
    torch.testing.assert_close(state["token_prefix"], theirs.token_prefix)
    assert state["token_suffix"].shape == theirs.token_suffix.shape
    for ours, other in zip(state["token_suffix"], theirs.token_suffix, strict=True):
        said = other.abs().sum(1) > 0  # what follows the end token is padding, which nobody reads
        torch.testing.assert_close(ours[said], other[said])


def test_nothing_private_but_the_context_is_exported(prompt: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    two = replace(prompt, domain_prompt=prompt.prompt + 1, familiar=np.ones(3, bool), trust=0.5)
    for known in (prompt, two):
        path.write_bytes(to_coop(known, backbone))
        content = torch.load(path)
        assert set(content) == {"state_dict", "epoch", "val_result"}
        assert set(content["state_dict"]) == {"ctx", "token_prefix", "token_suffix"}
    assert content["state_dict"]["ctx"].numpy().tobytes() == prompt.prompt.tobytes()
    again = torch.load(io.BytesIO(to_coop(two.one_level("domain"), backbone)))
    np.testing.assert_array_equal(again["state_dict"]["ctx"].numpy(), two.domain_prompt)


@pytest.mark.parametrize("template", ["{}", "{}."])
def test_there_and_back_keeps_every_bit(template: str, prompt: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = replace(prompt, class_template=template)
    path.write_bytes(to_coop(whole, backbone))
    again = from_coop(path, CLASSES, backbone, client="b")
    assert again.prompt.tobytes() == prompt.prompt.tobytes()
    assert (again.classes, again.class_template, again.rounds) == (CLASSES, template, 50)
    assert (again.client, again.method, again.log_prior, again.image_size) == ("b", "coop", None, 32)
    np.testing.assert_array_equal(again.class_features(backbone), whole.class_features(backbone))


@pytest.mark.parametrize("half", [False, True])
def test_a_file_of_coop_is_read_although_it_holds_objects(half: bool, backbone: Any, tmp_path: Path) -> None:
    learner = Learner(backbone, CLASSES)
    path = coop_writes(learner.half() if half else learner, tmp_path / "model.pth.tar-50")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)  # an ordinary reader would have to trust the file
    prompt = from_coop(path, ("cat", "security_icon", "dog"), backbone)
    np.testing.assert_array_equal(prompt.prompt, learner.ctx.detach().float().numpy())
    assert (prompt.classes, prompt.class_template, prompt.rounds) == (CLASSES, "{}.", 50)


def test_scores_are_those_of_coops_text(backbone: Any, tmp_path: Path) -> None:
    learner = Learner(backbone, CLASSES)
    prompt = from_coop(coop_writes(learner, tmp_path / "x"), CLASSES, backbone)
    tokens = backbone.class_tokens([f"{name}." for name in CLASSES], N_CTX)
    expected = backbone.class_features(learner.ctx.detach()[None], tokens)[0]
    np.testing.assert_allclose(prompt.class_features(backbone), expected, atol=1e-6)


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "dog"), "it is for 3 classes, but 2 names are given"),
        (("dog", "security icon", "cat"), "class 'dog' is not what the file has in its place: give .* in CoOp's order"),
        (("cat", "security", "dog"), "class 'security' is not"),
        (("cat", "security icon bird", "dog"), "class 'security icon bird' is not"),
    ],
)
def test_other_names_than_the_files_are_noticed(
    classes: tuple[str, ...], words: str, backbone: Any, tmp_path: Path
) -> None:
    path = coop_writes(Learner(backbone, CLASSES), tmp_path / "x")
    with pytest.raises(DataError, match=words):
        from_coop(path, classes, backbone)


def test_another_model_is_noticed(backbone: Any, tmp_path: Path) -> None:
    path = coop_writes(Learner(backbone, CLASSES), tmp_path / "x")
    alike = load_backbone(str(TinyClip(seed=5).save(tmp_path / "alike")), device="cpu")
    with pytest.raises(DataError, match="the CLIP that it was trained with"):
        from_coop(path, CLASSES, alike)
    wider = load_backbone(str(TinyClip(width=64).save(tmp_path / "wider")), device="cpu")
    with pytest.raises(DataError, match=r"ctx has shape \(4, 32\), but the model .* takes \[n_ctx, 64\] or"):
        from_coop(path, CLASSES, wider)


def test_contexts_of_single_classes_are_read_and_score_as_coops(backbone: Any, tmp_path: Path) -> None:
    learner = Learner(backbone, CLASSES, torch.randn(3, N_CTX, 32, generator=torch.Generator().manual_seed(0)))
    prompt = from_coop(coop_writes(learner, tmp_path / "x"), CLASSES, backbone)
    np.testing.assert_array_equal(prompt.prompt, learner.ctx.detach().numpy())
    tokens = backbone.class_tokens([f"{name}." for name in CLASSES], N_CTX)
    expected = torch.stack([backbone.class_features(ctx[None], tokens)[0, i] for i, ctx in enumerate(learner.ctx)])
    np.testing.assert_allclose(prompt.class_features(backbone), expected.detach(), atol=1e-6)
    again = tmp_path / "again"
    again.write_bytes(to_coop(prompt, backbone))
    state, before = (torch.load(p, weights_only=p == again)["state_dict"] for p in (again, tmp_path / "x"))
    assert state["ctx"].shape == before["ctx"].shape and torch.equal(state["ctx"], before["ctx"])
    assert torch.equal(state["token_prefix"], before["token_prefix"])


def test_contexts_for_another_number_of_classes_are_refused(backbone: Any, tmp_path: Path) -> None:
    bare = saved({"state_dict": {"ctx": torch.ones(4, N_CTX, 32)}}, tmp_path / "x")
    with pytest.raises(DataError, match=r"x: it holds 4 contexts, and 3 class names .* \(CSC\), give the 4 names"):
        from_coop(bare, CLASSES, backbone)
    learner = Learner(backbone, (*CLASSES, "bird"), torch.ones(4, N_CTX, 32))
    with pytest.raises(DataError, match="it is for 4 classes, but 3 names are given"):
        from_coop(coop_writes(learner, tmp_path / "y"), CLASSES, backbone)


def test_a_bare_context_is_taken_as_coop_writes_it(backbone: Any, tmp_path: Path) -> None:
    path = saved({"state_dict": {"ctx": torch.ones(2, 32)}}, tmp_path / "x")
    prompt = from_coop(path, CLASSES, backbone)
    assert (prompt.class_template, prompt.rounds, len(prompt.prompt)) == ("{}.", 0, 2)


def test_a_model_that_knows_no_full_stop_goes_without(
    prompt: ClientPrompt, backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(to_coop(prompt, backbone))
    read = type(backbone).class_tokens

    def without_stop(self: Any, names: Any, n_ctx: int) -> Any:
        if any("." in name for name in names):
            raise ConfigError("no full stop in this vocabulary")
        return read(self, names, n_ctx)

    monkeypatch.setattr(type(backbone), "class_tokens", without_stop)
    assert from_coop(path, CLASSES, backbone).class_template == "{}"
    bare = saved({"state_dict": {"ctx": torch.ones(2, 32)}}, tmp_path / "bare")
    assert from_coop(bare, CLASSES, backbone).class_template == "{}"
    with pytest.raises(ConfigError, match="cannot tell it from 'cat'"):
        from_coop(bare, ("cat", "CAT", "dog"), backbone)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": torch.ones(2)}, "not a checkpoint of CoOp's prompt learner"),
        ({"state_dict": {"ctx": 3}}, "not a checkpoint of CoOp's prompt learner"),
        ([1, 2], "not a checkpoint but list"),
        ({"state_dict": {"ctx": torch.full((2, 32), torch.nan)}}, "not finite"),
    ],
)
def test_other_torch_files_are_refused_by_name(content: Any, words: str, backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"x\.pth: .*{words}"):
        from_coop(saved(content, tmp_path / "x.pth"), CLASSES, backbone)


def test_damaged_missing_and_foreign_files_are_refused(backbone: Any, tmp_path: Path) -> None:
    path = saved({"state_dict": {"ctx": torch.ones(2, 32)}}, tmp_path / "x")
    for content in (path.read_bytes()[:300], b"", b"no zip at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x: not a torch file, or a damaged one"):
            from_coop(path, CLASSES, backbone)
    with pytest.raises(DataError, match=r"none: No such file"):
        from_coop(tmp_path / "none", CLASSES, backbone)


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i8", "?"])
def test_numbers_of_numpy_are_read_as_numbers(kind: str, backbone: Any, tmp_path: Path) -> None:
    content = coop_writes(Learner(backbone, CLASSES), tmp_path / "x")
    whole = torch.load(content, weights_only=False)
    number = np.dtype(kind).type(1) if kind == "?" else np.array(1, kind)[()]
    path = saved(whole | {"epoch": np.int64(50), "val_result": number}, tmp_path / "y")
    assert from_coop(path, CLASSES, backbone).rounds == 50
    path = saved(whole | {"val_result": np.str_("best")}, tmp_path / "z")  # no number, and of no use
    assert from_coop(path, CLASSES, backbone).rounds == 50


def test_arrays_of_numpy_are_refused_with_what_to_do(backbone: Any, tmp_path: Path) -> None:
    path = saved({"state_dict": {"ctx": np.ones((2, 32), np.float32)}}, tmp_path / "x")
    with pytest.raises(
        DataError, match=r"holds what no checkpoint .*numpy\.ndarray.* save its state_dict and epoch alone"
    ):
        from_coop(path, CLASSES, backbone)


RAN: list[str] = []


class Trap:
    """Runs code in whoever unpickles it carelessly."""

    def __reduce__(self) -> Any:
        return (RAN.append, ("boom",))


def test_no_code_of_the_file_is_run(backbone: Any, tmp_path: Path) -> None:
    content = {"state_dict": {"ctx": torch.ones(2, 32)}, "scheduler": {"successor": functools.partial(print, "boom")}}
    with pytest.raises(DataError, match=r"refused, it holds what no checkpoint of CoOp needs: .*partial"):
        from_coop(saved(content, tmp_path / "x"), CLASSES, backbone)
    content["scheduler"] = {"successor": Trap()}
    with pytest.raises(DataError, match=r"refused, .*getattr|refused"):
        from_coop(saved(content, tmp_path / "y"), CLASSES, backbone)
    assert RAN == []


def test_what_calls_itself_an_optimiser_is_skipped_not_called(
    backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dassl", "dassl.optim", "dassl.optim.evil"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def run() -> None:
        RAN.append("called")

    run.__module__, run.__qualname__ = "dassl.optim.evil", "run"
    sys.modules["dassl.optim.evil"].run = run  # type: ignore[attr-defined]
    call = type("Call", (), {"__reduce__": lambda self: (run, ())})
    path = saved({"state_dict": {"ctx": torch.ones(2, 32)}, "scheduler": call()}, tmp_path / "x")
    assert from_coop(path, CLASSES, backbone).prompt.all()
    assert RAN == []


def test_export_checks_model_and_names(prompt: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    other = load_backbone(str(TinyClip(seed=5).save(tmp_path / "other")), device="cpu")
    with pytest.raises(DataError, match="is another one"):
        to_coop(prompt, other)
    long = replace(prompt, classes=("cat", "dog " * 30), log_prior=None)
    with pytest.raises(ConfigError, match="shorten it"):
        to_coop(long, backbone)


def test_an_object_in_the_guise_of_a_number_is_refused(backbone: Any, tmp_path: Path) -> None:
    call = type(
        "Call", (), {"__reduce__": lambda self: (np.array(1, "f8")[()].__reduce__()[0], (np.dtype("O"), b"x" * 8))}
    )
    path = saved({"state_dict": {"ctx": torch.ones(2, 32)}, "val_result": call()}, tmp_path / "x")
    with pytest.raises(DataError, match="not a torch file, or a damaged one"):
        from_coop(path, CLASSES, backbone)
