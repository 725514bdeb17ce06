"""A headless Chromium, driven through its DevTools pipe: no driver, no network, no port."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe"),
)


def find_chromium() -> Optional[str]:
    """Return the browser's path; None if it is not installed."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


class Browser:
    """One page of a running browser.

    Attributes:
        requests: the URLs that the page requested.
        messages: messages on the browser's console, and dialogs.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._rest, self._session = 0, b"", None
        self._loaded = False
        self.requests: List[str] = []
        self.messages: List[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open_page(self, path: Path, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Open a file in a window of `width` pixels; below 500, emulate a phone."""
        self.open_url(path.resolve().as_uri(), width, dark=dark, media=media)

    def open_url(self, url: str, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Open an address in a window of `width` pixels; below 500, emulate a phone."""
        self.requests.clear()
        self.messages.clear()
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=812 if phone else 900,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, (expression, self.evaluate("document.body.innerText"))
            time.sleep(0.02)

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _receive(self, seconds: float = 60.0) -> Dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser sent nothing in time"
            block = os.read(self._answers, 1 << 20)
            assert block, "the browser ended"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(message)
        self._record(answer.get("method", ""), answer.get("params", {}))
        return answer

    def _record(self, event: str, params: Dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(params))
        elif event == "Page.javascriptDialogOpening":
            self.messages.append(params["message"])


@contextlib.contextmanager
def open_browser(executable: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with its own profile; end it after the block."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()

    def connect_pipes() -> None:  # the browser reads commands from 3 and writes answers to 4
        low, high = os.dup(command_read), os.dup(answer_write)
        os.dup2(low, 3)
        os.dup2(high, 4)

    process = subprocess.Popen(
        [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=connect_pipes,
        close_fds=False,
    )
    try:
        os.close(command_read)
        os.close(answer_write)
        browser = Browser(command_write, answer_read)
        yield browser
    finally:
        os.close(command_write)  # the browser ends when this pipe closes
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answer_read)
