"""A headless browser over the DevTools protocol's pipe: no driver, no package, no port.

The browser reads commands from its file descriptor 3 and writes answers and events to 4, JSON ended by a zero byte.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip
START = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
ENDED = "the browser ended"
SECONDS = 60.0  # for any one answer
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


def find_browser() -> str | None:
    """What CHROMIUM names, else the first of the usual programs on the path."""
    chosen = os.environ.get("CHROMIUM")
    return shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in one browser; events of the page are kept in ``events``."""

    def __init__(self, program: str, profile: Path) -> None:
        (there_in, here_out), (here_in, there_out) = self._pipe(), self._pipe()
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which a browser run by root refuses to have
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(there_in), str(there_out), *command],
            pass_fds=(there_in, there_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(there_in)
        os.close(there_out)
        self._in, self._out, self._buffer, self._number = here_in, here_out, b"", 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in target if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        """A pipe whose ends are neither 3 nor 4, which are to be overwritten."""
        ends = os.pipe()
        high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
        for end in ends:
            os.close(end)
        return high[0], high[1]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (answer := self._read(deadline)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            if not (piece := os.read(self._in, 1 << 20)):
                raise RuntimeError(ENDED)
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def wait_for(self, event: str) -> None:
        """Until the page has reported it."""
        deadline = time.monotonic() + SECONDS
        while not any(one.get("method") == event for one in self.events):
            self.events.append(self._read(deadline))

    def open(self, page: Path | str) -> None:
        """Load a file, or what is at an address; events of what was there before are forgotten."""
        self.events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, promises awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script[:200]}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        """The size of the window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, colours: str, media: str = "screen") -> None:
        """``light`` or ``dark``; ``screen`` or ``print``."""
        features = [{"name": "prefers-color-scheme", "value": colours}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key: str) -> None:
        """One key, as a person presses it."""
        self.key("keyDown", key)
        self.key("keyUp", key)

    def key(self, event: str, key: str) -> None:
        """``keyDown`` or ``keyUp``."""
        code, text = KEYS.get(key, (ord(key[0].upper()), key if len(key) == 1 else ""))
        place = "Space" if key == " " else f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key
        typed = {"text": text} if event == "keyDown" and text else {}
        self.call("Input.dispatchKeyEvent", type=event, key=key, code=place, windowsVirtualKeyCode=code, **typed)

    def touch(self, *places: tuple[float, float]) -> None:
        """Fingers on the screen from now on, in CSS pixels; none lifts all."""
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.call("Input.dispatchTouchEvent", type="touchStart" if points else "touchEnd", touchPoints=points)

    def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def close(self) -> None:
        """End the browser, by force if it does not hear."""
        try:
            self.session = None
            self.call("Browser.close")
        except (OSError, RuntimeError, TimeoutError):
            self.process.kill()
        self.process.wait(timeout=SECONDS)
        os.close(self._in)
        os.close(self._out)
