"""Who is measured: Tidegate's store, and nginx that serves the same bytes from files."""

import http.client
import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

import measure
from place import CompareError, free_port, nginx_user, wait_until
from servers.process import Process
from signing import Signer

BUCKET = "bench"
# Buckets that keep apart what is counted: listings of the one must not meet the objects of the other.
KEYS_BUCKET = "keys"
HERE = Path(__file__).resolve().parent

READABLE = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"},
    ],
}


class Store(Process):
    """A server that speaks S3, on both cores until `pin`."""

    region = "us-east-1"
    access_key_id = "bench"
    secret = "a-secret-of-the-benchmarks"

    def __init__(self, place):
        super().__init__(place, None)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.signer = Signer(self.address, self.access_key_id, self.secret, self.region)

    def start(self):
        self.folder = self.place.fresh_folder(self.name)
        self.launch()
        self.wait_for_port(self.port)

    def launch(self):
        raise NotImplementedError

    def pin(self, core):
        """Binds it to one core, so that its time can be set beside another server's; None: to none."""
        cores = {core} if core is not None else set(range(os.cpu_count()))
        for pid in self.pids():
            for thread in os.listdir(f"/proc/{pid}/task"):
                try:
                    os.sched_setaffinity(int(thread), cores)
                except ProcessLookupError:
                    continue

    def call(self, method, path, query=None, body=None, missing_is_none=False):
        """One signed request; the body of its answer, which must be a success, or 404 where that may be."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, self.signer.target(method, path, query), body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status == 404 and missing_is_none:
            return None
        if answer.status // 100 != 2:
            raise CompareError(f"{self.name}: {method} {path} got {answer.status}: {data[:300]}")
        return data

    def resident_kib(self):
        return measure.resident_kib(self.pids())

    def remove_data(self):
        """What it stores goes; logs and configuration stay."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class Tidegate(Store):
    """The store alone, as `tidegate origin` runs it: every answer to a write means that it is on disk."""

    name = "Tidegate"

    @classmethod
    def version_command(cls, place):
        return [place.tidegate, "--version"]

    def launch(self):
        secret = self.folder / "bench.key"
        secret.touch(mode=0o600)
        secret.write_text(self.secret)
        self.admin = f"127.0.0.1:{free_port()}"
        credentials = [{"access_key_id": self.access_key_id, "secret_file": secret.name}]
        origin = {"address": self.address, "data": "data", "region": self.region, "credentials": credentials}
        config = self.folder / "tidegate.yaml"
        # JSON is YAML.
        config.write_text(json.dumps({"admin": {"address": self.admin}, "origin": origin, "log": {"level": "warn"}}))
        self.spawn([self.place.tidegate, "origin", "--config", config])
        wait_until(self._is_ready, "Tidegate is ready")
        for bucket in (BUCKET, KEYS_BUCKET):
            self.call("PUT", f"/{bucket}")
        self.call("PUT", f"/{BUCKET}", {"policy": ""}, json.dumps(READABLE).encode())

    def _is_ready(self):
        self.expect_running()
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False


class Nginx(Process):
    """Files, sent by sendfile on `port`, and read and written on `reading_port`."""

    name = "nginx"

    @classmethod
    def version_command(cls, place):
        return ["nginx", "-v"]

    def start(self):
        self.folder = self.place.fresh_folder(self.name)
        self.port, self.reading_port = free_port(), free_port()
        files = self.folder / "files"
        files.mkdir()
        values = {"folder": self.folder, "user": nginx_user(), "files": files}
        values |= {"port": self.port, "reading_port": self.reading_port}
        template = (HERE / "config/nginx.conf").read_text()
        config = self.folder / "nginx.conf"
        config.write_text(re.sub(r"@(\w+)@", lambda found: str(values[found.group(1)]), template))
        self.spawn(["nginx", "-e", self.folder / "error.log", "-c", config])
        self.wait_for_port(self.port)

    def keep(self, path, data):
        file = self.folder / "files" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
