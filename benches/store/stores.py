"""Who is measured: Tidegate's store, Garage where it is built, and nginx that serves the same bytes from files."""

import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
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


def write_config(name, path, values):
    """Writes a configuration of `config` with values for what stands between @ there."""
    template = (HERE / "config" / name).read_text()
    path.write_text(re.sub(r"@(\w+)@", lambda found: str(values[found.group(1)]), template))


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

    def puts_answered(self):
        """How many PUTs were answered with a success so far, as the store itself counts them."""
        raise NotImplementedError

    def counted(self, address, pattern):
        """The sum of the samples of its metrics that match."""
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(map(int, re.findall(pattern, text, re.M)))

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

    def puts_answered(self):
        name = r'tidegate_store_requests_total\{[^}]*operation="PutObject"[^}]*status="200"[^}]*\}'
        return self.counted(self.admin, rf"^{name} (\d+)")

    def _is_ready(self):
        self.expect_running()
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False


class Garage(Store):
    """Garage as one node without replicas, its data and metadata synced, and uncompressed as ours is."""

    name = "Garage"
    # Its program; whoever measures says which.
    binary = None
    # Of the form that it wants.
    access_key_id = "GK0123456789abcdef01234567"
    secret = "0123456789abcdef" * 4

    @classmethod
    def version_command(cls, place):
        return [cls.binary, "--version"]

    def launch(self):
        self.admin, rpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
        values = {"folder": self.folder / "data", "address": self.address, "admin": self.admin, "rpc": rpc}
        values |= {"region": self.region, "secret": secrets.token_hex(32)}
        self._config = self.folder / "garage.toml"
        write_config("garage.toml", self._config, values)
        self.spawn([self.binary, "--config", self._config, "server"])
        wait_until(self._is_ready, "Garage is ready")
        node = self._tell("node", "id", "--quiet").split("@")[0]
        self._tell("layout", "assign", "--zone", "here", "--capacity", "100G", node)
        self._tell("layout", "apply", "--version", "1")
        self._tell("key", "import", "--yes", self.access_key_id, self.secret)
        for bucket in (BUCKET, KEYS_BUCKET):
            self._tell("bucket", "create", bucket)
            self._tell("bucket", "allow", "--read", "--write", "--key", self.access_key_id, bucket)

    def puts_answered(self):
        asked = self.counted(self.admin, r'^api_s3_request_counter\{[^}]*api_endpoint="PutObject"[^}]*\} (\d+)')
        return asked - self.counted(self.admin, r'^api_s3_error_counter\{[^}]*api_endpoint="PutObject"[^}]*\} (\d+)')

    def _is_ready(self):
        self.expect_running()
        done = self._run("status")
        return done.returncode == 0

    def _run(self, *words):
        command = [self.binary, "--config", self._config, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _tell(self, *words):
        done = self._run(*words)
        if done.returncode:
            raise CompareError(f"garage {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()


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
        config = self.folder / "nginx.conf"
        write_config("nginx.conf", config, values)
        self.spawn(["nginx", "-e", self.folder / "error.log", "-c", config])
        self.wait_for_port(self.port)

    def keep(self, path, data):
        file = self.folder / "files" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
