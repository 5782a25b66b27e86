"""A headless browser for tests of pages: chromedriver's own protocol, without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.integration.homes import eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"

FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    # Whatever a page would ask for outside is nowhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window."""

    def __init__(self, port: int, session: str) -> None:
        self._at = f"http://127.0.0.1:{port}/session/{session}"

    def call(self, path: str, said: dict[str, Any]) -> Any:
        """Ask the driver."""
        return ask(f"{self._at}/{path}", said)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the function body `script` returns in the page."""
        return self.call("execute/sync", {"script": script, "args": list(arguments)})

    def press(self, keys: str) -> None:
        """Type on what has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def look(self, *, width: int, dark: bool) -> None:
        """Be a screen so wide, of somebody who likes it dark or light."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        for command, params in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", {"features": [scheme]}),
        ):
            self.call("goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, page: Path | str) -> None:
        """Open a file, or an address on this machine, and wait until its charts are drawn."""
        self.call("url", {"url": page if isinstance(page, str) else page.as_uri()})
        drawn = (
            "return document.documentElement.dataset.drawn === 'true' && !!document.querySelector('tbody tr')"
        )
        eventually(lambda: bool(self.run(drawn)), f"{page} is drawn")

    def barriers(self) -> list[str]:
        """Return what keeps people from using the page, as axe-core finds it."""
        self.run((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
        asked = """
            const done = arguments[0];
            const told = (each) => [each.help, ...each.nodes.map((node) => node.html)];
            axe.run(document).then((found) => done(found.violations.map(told)));
        """
        return [" ".join(found)[:500] for found in self.call("execute/async", {"script": asked, "args": []})]

    def complaints(self) -> list[str]:
        """Return what the console got to hear that is more than a note."""
        return [
            line["message"] for line in self.call("se/log", {"type": "browser"}) if line["level"] != "INFO"
        ]


def ask(address: str, said: dict[str, Any] | None, method: str = "POST") -> Any:
    """Send JSON to a driver on this machine and return its answer's value."""
    data = None if said is None else json.dumps(said).encode()
    request = urllib.request.Request(address, data=data, method=method)
    with DIRECT.open(request, timeout=60) as answer:
        return json.loads(answer.read())["value"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Open a browser whose profile is in `folder`."""
    assert DRIVER is not None
    driver = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        found = next(filter(None, (re.search(r"on port (\d+)\.", line) for line in driver.stdout)))
        port = int(found[1])
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        asked = {"capabilities": {"alwaysMatch": wanted}}
        session = ask(f"http://127.0.0.1:{port}/session", asked)["sessionId"]
        try:
            yield Browser(port, session)
        finally:
            ask(f"http://127.0.0.1:{port}/session/{session}", None, method="DELETE")
    finally:
        driver.terminate()
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()
