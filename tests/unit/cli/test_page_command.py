"""`secfpp page` until it listens: what it refuses, and how soon."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from secfpp.models.prompt_file import ClientPrompt
from support.prompt_commands import fails


@pytest.fixture(autouse=True)
def _no_model(prompt: ClientPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused is refused before the model is loaded."""

    def load(*args: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(ClientPrompt, "model", load)


def test_a_prompt_is_needed() -> None:
    assert "give a file that secfpp wrote" in fails("page", "photos/cat/000.png")


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"--port = {port}: Address already in use" in fails("page", "a.safetensors", "--port", str(port))


def test_examples_must_be_a_folder() -> None:
    assert "--examples nowhere: no such folder" in fails("page", "a.safetensors", "--examples", "nowhere")


def test_a_window_without_inside_is_refused() -> None:
    assert "that of black below that of white" in fails("page", "a.safetensors", "--grey-window", "5", "5")


def test_frequencies_must_be_known(prompt: ClientPrompt) -> None:
    replace(prompt, log_prior=None).save(Path("b.safetensors"))
    assert "holds no class frequencies" in fails("page", "b.safetensors", "--prior", "own")


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "secfpp.page.server", None)
    assert "pip install 'secfpp[page]'" in fails("page", "a.safetensors")
