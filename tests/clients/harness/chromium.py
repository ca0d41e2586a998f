"""Headless Chromium over the DevTools protocol: open a page, ask it questions, take a picture."""

import base64
import json
import os
import shutil
import subprocess

from websockets.sync.client import connect

from .node import Output
from .waiting import Deadline

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    # Nobody clicks here.
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=960,720",
    "--remote-debugging-port=0",
]


class Chromium:
    """A browser with a profile of its own that trusts the CA in the file `ca`, as a user would make it."""

    def __init__(self, folder, ca):
        binary = shutil.which("chromium") or shutil.which("chromium-browser")
        assert binary, "chromium is missing: make deps"
        home = folder / "home"
        _trust(home, ca)
        self.process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ | {"HOME": str(home)},
        )
        self.log = Output(self.process.stderr)
        address = self.log.wait_for(_devtools_address)
        assert address, "\n".join(self.log.lines)
        # Closed in `close`, so that nothing has to be indented by a browser.
        self._socket = connect(address, max_size=None, compression=None, legacy=True)
        self._sent = 0
        self.events = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url):
        """Goes to a page and returns when it and what it needs at once have been loaded."""
        answer = self._call("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        self._wait_for("Page.loadEventFired")

    def evaluate(self, script, seconds=60):
        """The value of an expression; a promise is waited for."""
        answer = self._call(
            "Runtime.evaluate",
            seconds=seconds,
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def set_cookie(self, site, path, name, value):
        """Gives the browser a cookie as a response of `site` would, for what lies under `path`."""
        answer = self._call("Network.setCookie", url=site + path, name=name, value=value, secure=True, path=path)
        assert answer["success"], name

    def screenshot(self, file):
        """Saves what the page looks like now as a PNG."""
        picture = self._call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(picture))

    def _call(self, method, seconds=60, **parameters):
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        deadline = Deadline(seconds)
        while True:
            answer = json.loads(self._socket.recv(timeout=deadline.left()))
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _wait_for(self, method, seconds=60):
        deadline = Deadline(seconds)
        while not any(event.get("method") == method for event in self.events):
            self.events.append(json.loads(self._socket.recv(timeout=deadline.left())))

    def close(self):
        self._socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _devtools_address(lines):
    mark = "DevTools listening on "
    return next((line.removeprefix(mark) for line in lines if line.startswith(mark)), None)


def _trust(home, ca):
    """Chromium on Linux trusts what the user's NSS database trusts."""
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    assert shutil.which("certutil"), "certutil is missing: apt-get install libnss3-tools"
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    subprocess.run([*certutil, "-A", "-n", "tidegate", "-t", "C,,", "-i", str(ca)], check=True)
