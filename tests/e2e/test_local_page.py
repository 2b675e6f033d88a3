"""`secfpp page` in a real browser: images dropped and chosen, answers shown; and stopped by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from secfpp.data.icons import IconSettings, load_icons
from secfpp.personalizer import Personalizer
from support.browser import TIMEOUT, Browser, Visit
from support.page_faults import faults

NEW = ("a.png", "b.jpg", "noise.png", "notes.txt", "deep.tif")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prompt, examples of its classes, and new files."""
    folder = tmp_path_factory.mktemp("page")
    settings = IconSettings(domains=("sketch", "chalk"), clients_per_domain=4, shots=8, test_shots=1)
    data = load_icons(settings, seed=0)
    client = data.clients[0]
    model = Personalizer("class_means_local").fit(data)
    model.prompts_[client.name].save(folder / "prompt.safetensors")
    for number, (image, label) in enumerate(zip(client.train.images, client.train.labels, strict=True)):
        (folder / "mine" / data.classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "mine" / data.classes[label] / f"{number}.png")
    for name, image in zip(NEW[:2], data.test[client.domain].images, strict=False):
        Image.fromarray(image).save(folder / name)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (60, 90, 3)).astype(np.uint8)).save(folder / "noise.png")
    Image.fromarray(random.integers(0, 4095, (64, 64)).astype(np.uint16)).save(folder / "deep.tif")
    (folder / "notes.txt").write_text("no image")
    return folder


@contextmanager
def running(room: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and its address once it listens; killed in the end if it still runs."""
    # A shell's background jobs ignore Ctrl-C, and what they start inherits that.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeding}; from secfpp.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "page", "prompt.safetensors", "--port", "0", *words],
        cwd=room,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.match(r"(http://127\.0\.0\.1:\d+/) is open", line)
        assert address, line + process.communicate(timeout=60)[1]
        yield process, address[1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(room: Path) -> Iterator[str]:
    with running(room, "--examples", "mine") as (_, found):
        yield found


def drop(visit: Visit, *files: Path) -> None:
    """Files dragged over the page and let go, as from a file manager."""
    data = {"items": [], "files": list(map(str, files)), "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        visit.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)


def choose(visit: Visit, *files: Path) -> None:
    """Files chosen in the dialog."""
    root = visit.call("DOM.getDocument")["root"]["nodeId"]
    node = visit.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    visit.call("DOM.setFileInputFiles", files=list(map(str, files)), nodeId=node)


def wait(visit: Visit, answered: int) -> None:
    """Until so many files are answered, and their pictures are there."""
    ready = f"""document.querySelector('#status').textContent.startsWith('{answered} of {answered} ')
      && [...document.images].every(image => image.complete)"""
    deadline = time.monotonic() + TIMEOUT
    while not visit.evaluate(ready):
        assert time.monotonic() < deadline, visit.evaluate("document.body.innerText")
        time.sleep(0.05)


def shown(visit: Visit, index: int) -> dict[str, Any]:
    """What the page says of a file."""
    found: dict[str, Any] = visit.evaluate(f"""(() => {{
      const card = document.querySelectorAll('.result')[{index}], words = at => card.querySelector(at).innerText.trim();
      return {{name: words('.name'), best: words('.best'), marks: words('.marks'), unlike: card.matches('.unlike'),
        bars: card.querySelectorAll('.said > .bars > .row').length, near: card.querySelectorAll('.near li').length,
        seen: card.querySelector('.seen')?.naturalWidth,
        wide: [...card.querySelectorAll('.said > .bars .fill')].map(bar => bar.getBoundingClientRect().width)}};
    }})()""")
    return found


def test_dropped_images_are_answered_in_order(browser: Browser, address: str, room: Path) -> None:
    with browser.visit(address) as visit:
        assert visit.evaluate("document.querySelector('#clear').hidden")
        drop(visit, *(room / name for name in NEW))
        wait(visit, len(NEW))
        first, second, noise, text, deep = (shown(visit, index) for index in range(len(NEW)))
        assert [found["name"] for found in (first, second, noise, text, deep)] == list(NEW)
        for found in (first, second, noise):
            assert re.fullmatch(r"\w+\s*\d+\.\d %", found["best"]) and found["bars"] == 5 and found["near"] == 4
            assert found["seen"] == 48 and found["wide"] == sorted(found["wide"], reverse=True)
        assert noise["unlike"] and "the class means little" in noise["marks"]
        assert "damaged, or not an image" in text["marks"] and text["best"] == "" and text["bars"] == 0
        assert "--grey-window" in deep["marks"]
        visit.evaluate("document.querySelector('#clear').click()")
        assert visit.evaluate("document.querySelectorAll('.result').length") == 0
        assert visit.complaints == []


def test_the_page_is_silent_alone_and_readable(browser: Browser, address: str, room: Path) -> None:
    with browser.visit(address) as visit:
        for number, width in enumerate((1280, 420)):
            for dark in (False, True):
                visit.resize(width, dark=dark)
                choose(visit, *(room / name for name in NEW))
                wait(visit, len(NEW) * (2 * number + dark + 1))
                assert faults(visit, address) == []
        lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, c) => a + +c, 0) / 765"
        assert visit.evaluate(lightness) < 0.15


def test_the_keyboard_is_enough(browser: Browser, address: str) -> None:
    with browser.visit(address) as visit:
        visit.press("Tab", 9)
        assert visit.evaluate("document.activeElement.id") == "files"
        assert visit.evaluate("getComputedStyle(document.querySelector('.button')).outlineStyle") == "solid"


def test_a_server_that_is_gone_is_told(browser: Browser, room: Path) -> None:
    with running(room) as (process, address), browser.visit(address) as visit:
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
        choose(visit, room / NEW[0])
        wait(visit, 1)
        assert "still running" in shown(visit, 0)["marks"]


def test_control_c_ends_it(room: Path) -> None:
    with running(room) as (process, address):
        assert urlopen(address, timeout=20).status == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "Traceback" not in err and err.endswith("The page is closed.\n")
