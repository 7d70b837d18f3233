"""A headless Chromium, spoken to over pipes in the DevTools protocol: no driver, no port.

https://chromedevtools.github.io/devtools-protocol/ and its `--remote-debugging-pipe`: JSON
messages that end in a zero byte, read on descriptor 3 and written on 4.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


# The contrast of each text with what is painted behind it, as WCAG 2.2 defines it; boxes that
# a reader sees, with their widths; what sticks out of the window.
LOOK = """(() => {
  const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
    return [255, 255, 255]; };
  const contrast = (a, b) => { const [x, y] = [light(a.slice(0, 3)), light(b.slice(0, 3))];
    return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
  document.querySelectorAll('details').forEach(d => d.open = true);
  const texts = [...document.querySelectorAll('h1,h2,h3,p,a,dt,dd,li,td,th,pre,label,button,summary,figcaption,code,svg text')]
    .filter(e => e.textContent.trim());
  const colour = e => rgb(e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color);
  const figures = [...document.querySelectorAll('figure > svg')];
  return {
    contrast: Math.min(...texts.map(e => contrast(colour(e), ground(e)))),
    ground: ground(document.body),
    smallest: Math.min(...texts.map(e => e instanceof SVGElement
      ? 11 * e.ownerSVGElement.getBoundingClientRect().width / 360 : parseFloat(getComputedStyle(e).fontSize))),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    titles: figures.map(f => f.querySelector('title').textContent),
    painted: figures.filter(f => { const b = f.getBoundingClientRect(); return b.width > 200 && b.height > 100; }).length,
    marks: figures.every(f => [...f.querySelectorAll('.bars,.dot,.line')].some(m => {
      const b = m.getBoundingClientRect(); return b.width > 0 || b.height > 0; })),
  };
})()"""  # noqa: E501


def chromium() -> str | None:
    """The path of a browser of this machine, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page of a browser, with its errors.

    Args:
        browser: the browser's path.
        folder: an empty folder for its profile.
    """

    def __init__(self, browser: str, folder: Path) -> None:
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$0" "$@" 3<&{read_there} 4>&{write_there}'),
                *(browser, *flags.split(), "--remote-debugging-pipe"),
                *(f"--user-data-dir={folder}", "about:blank"),
            ],
            pass_fds=(read_there, write_there),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._in, self._out = os.fdopen(read_here, "rb"), write_here
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = ""
        try:
            self.call("Browser.close")
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._in.close()
            os.close(self._out)

    def open(self, place: Path | str, width: int, scheme: str) -> None:
        """Opens a file or an address in a window of a width, in "light" or "dark".

        Forgets older events.
        """
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=place.as_uri() if isinstance(place, Path) else place)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[dict[str, Any]]:
        """What the page wrote to the console, and errors of any kind."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        failures = ("Network.loadingFailed",)
        return [event for event in self.events if event["method"] in (*kinds, *failures)]

    def requests(self) -> list[str]:
        """The addresses that the page requested."""
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command to the browser and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                self.events.append(answer)
                continue
            assert "error" not in answer, (method, answer)
            return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = self._in.read1(1 << 16)  # type: ignore[attr-defined]
            assert data, "the browser has ended"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))
