"""A headless Chromium, driven over the DevTools protocol through a pair of pipes: no port, no package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 20.0
# The browser reads commands from descriptor 3 and writes answers to 4; a child cannot be given fixed numbers otherwise.
_START = """
import os, sys
read, write = (os.dup(int(n)) for n in sys.argv[1:3])
while read < 5: read = os.dup(read)
while write < 5: write = os.dup(write)
os.dup2(read, 3); os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The program in $CHROMIUM, or the first of `NAMES` that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Visit:
    """A page that was opened, and everything the browser had to say about it.

    Attributes:
        complaints: console messages, exceptions and what the browser logged, as text.
        requests: every address that it asked for, embedded data excepted.
    """

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900, dark: bool = False) -> None:
        """A window of this many CSS pixels, in light or dark mode."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, code: int) -> None:
        """A key, as a person would press it; `code` is its Windows virtual key code."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


class Browser:
    """A running browser; `visit` opens a page in a fresh tab."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        options = (
            "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --remote-debugging-pipe "
            "--disable-extensions --disable-background-networking --disable-component-update --disable-dev-shm-usage"
        )
        start = [sys.executable, "-c", _START, str(to_browser), str(from_browser)]
        self._process = subprocess.Popen(
            [*start, program, *options.split(), f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest = 0, b""
        self._visits: dict[str, Visit] = {}

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its result; events that come meanwhile are noted."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
        raise AssertionError(f"{method}: no answer within {TIMEOUT:g} s, or the browser has ended")

    def close(self) -> None:
        """End the browser."""
        os.close(self._write)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    @contextmanager
    def visit(self, address: str, width: int = 1280, dark: bool = False) -> Iterator[Visit]:
        """Open `address`, wait until it is loaded and at rest, and close it in the end."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        visit = self._visits[session] = Visit(self, session)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                visit.call(f"{domain}.enable")
            visit.resize(width, dark=dark)
            visit.call("Page.navigate", url=address)
            ready = "document.readyState === 'complete' && location.href !== 'about:blank'"
            deadline = time.monotonic() + TIMEOUT
            while not visit.evaluate(ready):
                assert time.monotonic() < deadline, f"{address} did not load"
                time.sleep(0.02)
            # two frames and a turn of the event loop later, what the page does on its own has happened
            visit.evaluate("new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(d))))")
            yield visit
        finally:
            del self._visits[session]
            self.call("Target.closeTarget", targetId=target)

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + TIMEOUT
        while (left := deadline - time.monotonic()) > 0 and select([self._read], [], [], left)[0]:
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                return
            *whole, self._rest = (self._rest + chunk).split(b"\0")
            # every one is noted before the first is handed out: the caller may stop at its answer
            messages = [json.loads(message) for message in whole]
            for message in messages:
                self._note(message)
            yield from messages

    def _note(self, message: Mapping[str, Any]) -> None:
        visit, event = self._visits.get(message.get("sessionId", "")), message.get("params", {})
        if visit is None:
            return
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                words = (str(item.get("value", item.get("description"))) for item in event["args"])
                visit.complaints.append(f"console.{event['type']}: " + " ".join(words))
            case "Runtime.exceptionThrown":
                thrown = event["exceptionDetails"]
                visit.complaints.append(thrown.get("exception", {}).get("description", thrown["text"]))
            case "Log.entryAdded":
                visit.complaints.append(f"{event['entry']['level']}: {event['entry']['text']}")
            case "Network.requestWillBeSent" if not event["request"]["url"].startswith("data:"):
                visit.requests.append(event["request"]["url"])
