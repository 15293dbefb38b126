"""A real browser, Debian's chromium, spoken to over the pipe of its DevTools.

No driver is between: the protocol is JSON with a zero byte after each message, and a browser that
was started by this process ends with it. Whatever the page says on its console, and every address
that it asks for, is kept.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

TIMEOUT_S = 60


class Browser:
    """One page of a headless chromium; use it in `with`.

    Attributes:
        said: what came on the console, and uncaught errors.
        asked: the addresses that were asked for, but for those inside of the file.
    """

    def __init__(self):
        program = shutil.which("chromium")
        assert program, "no chromium here: apt-get install chromium"
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        told, self._to = os.pipe()
        self._from, tells = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{told} 4>&{tells}'
        options = (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
            *("--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"),
            *("--hide-scrollbars", f"--user-data-dir={self._profile.name}", "about:blank"),
        )
        self._process = subprocess.Popen(
            ["bash", "-c", script, program, *options],
            pass_fds=(told, tells),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        os.close(tells)
        self._rest, self._number, self._session = b"", 0, None
        self.said, self.asked = [], []

    def __enter__(self):
        (page,) = (
            target
            for target in self._call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        self._profile.cleanup()

    def look(self, *, width, height=900, dark=False, scale=1.0):
        """Make the window so wide, in pixels, and the system's colours light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path):
        """Open a file, and wait until all of it has run."""
        self._call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete'")
        self.settle()

    def settle(self):
        """Wait until what the page draws is drawn."""
        frame = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 20)))"
        for _ in range(3):
            self.run(frame)

    def until(self, script):
        """Wait until an expression is true."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.run(script):
            assert time.monotonic() < deadline, f"still not so: {script}"
            self.run("new Promise(done => setTimeout(done, 20))")

    def run(self, script):
        """What an expression of JavaScript gives; promises are waited for."""
        answer = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path, *, whole=False):
        """Write what is seen, or the whole page, as a PNG."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._notice(answer.get("method"), answer.get("params", {}))

    def _read(self):
        while b"\0" not in self._rest:
            got = os.read(self._from, 1 << 16)
            assert got, "the browser has ended"
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _notice(self, method, parameters):
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("data:", "blob:")):
                self.asked.append(url)
