"""The public tests for HTTP caches (cache-tests.fyi): their origin, their client, and their own verdicts.

There are two editions, and both call themselves 0.4.5. `registry` is what npm installs, `github` is the
development since, with its programs in `test-engine/`. Both can be driven from here.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .node import REPOSITORY, Output

INSTALLED = REPOSITORY / "target/http-cache-tests/node_modules/http-cache-tests"
OURS = REPOSITORY / "tests/clients/http_cache_tests"

# A run pauses for three seconds in each of its batches, and in batches of 100 tests at a time.
RUN_SECONDS = 240


@dataclass(frozen=True)
class Verdict:
    """What the package's results page shows for one test."""

    id: str
    suite: str
    name: str
    # required, optimal or check; the last only asks how a cache behaves.
    kind: str
    # pass, fail, yes, no, untested, setup failure, dependency failure, harness error or retry.
    verdict: str
    # Name and message of what the test itself threw; None when nothing was wrong with the test itself.
    error: str | None
    message: str | None

    @property
    def succeeded(self):
        return self.verdict in ("pass", "yes")

    def __str__(self):
        said = f"{self.error}: {self.message}" if self.error else "nothing wrong by itself"
        return f"{self.kind} {self.id} ({self.suite}): {self.verdict}; {said}\n    {self.name}"


class CacheTests:
    """The package in `folder` with its origin running on loopback; `address` is the origin's."""

    def __init__(self, folder, scratch):
        self.folder = Path(folder)
        assert (self.folder / "tests").is_dir(), f"{self.folder} holds no http-cache-tests: make deps"
        engine = self.folder / "test-engine"
        self.edition = "github" if engine.is_dir() else "registry"
        self._engine = engine if engine.is_dir() else self.folder
        # The programs are made to be started by npm, which hands over their options like this.
        self._environment = os.environ | {
            "npm_config_protocol": "http",
            # The kernel chooses.
            "npm_config_port": "0",
            "npm_config_pidfile": str(scratch / "server.pid"),
        }
        self._server = subprocess.Popen(
            ["node", "--import", OURS / "preload_server.mjs", self._engine / "server/server.mjs"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log = Output(self._server.stdout)
        self.address = self.log.wait_for(_address)
        assert self.address, "\n".join(self.log.lines)

    def run(self, cache):
        """All tests against the cache at `cache` (`host:port`); the verdicts by id, without the untested."""
        results = self._client(cache, test_id="")
        judged = subprocess.run(
            ["node", OURS / "verdicts.mjs", self.folder],
            input=results,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert judged.returncode == 0, judged.stderr
        verdicts = [Verdict(**fields) for fields in json.loads(judged.stdout)]
        return {one.id: one for one in verdicts if one.verdict != "untested"}

    def run_one(self, cache, test_id):
        """One test, whatever it depends on; whether it succeeded, and what client and origin saw."""
        printed = self._client(cache, test_id=test_id).rstrip()
        last_line = printed.rpartition("\n")[2]
        origin = "\n".join(self.log.lines)
        return last_line.startswith(("✅", "Y")), f"{printed}\n\n{origin}"

    def _client(self, cache, *, test_id):
        options = {"npm_config_base": f"http://{cache}", "npm_config_id": test_id, "npm_package_config_id": ""}
        done = subprocess.run(
            ["node", "--no-warnings", "--import", OURS / "preload_client.mjs", self._engine / "cli.mjs"],
            cwd=self.folder,
            env=self._environment | options,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        # It reports what it could not do on standard error and still ends with 0.
        assert done.returncode == 0 and not done.stderr, f"exit code {done.returncode}\n{done.stderr}"
        return done.stdout

    def close(self):
        self._server.terminate()
        self._server.wait(10)


def _address(lines):
    mark = "Listening on http://"
    return next((line.removeprefix(mark).rstrip("/") for line in lines if line.startswith(mark)), None)
