"""`tidegate up` as somebody meets it who has just built it: everything that it prints is used as printed."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from harness import s3
from harness.curl import curl
from harness.node import BINARY, REPOSITORY, Node
from harness.ports import free_port

SAMPLE = (REPOSITORY / "src/first_start/samples/sample.mp4").read_bytes()
DEFAULT_ADDRESSES = ("127.0.0.1:9900", "127.0.0.1:8080", "127.0.0.1:8443", "127.0.0.1:9000")


class Greeting:
    """What `up` prints once it serves."""

    def __init__(self, node):
        end = node.stdout.wait_for(lambda lines: any("Ctrl-C" in line for line in lines))
        assert end, node.log_tail()
        self.text = "\n".join(node.stdout.lines)

    def value(self, name):
        return self.values(name)[0]

    def values(self, name):
        found = re.findall(rf"^  {re.escape(name)} +(\S.*)$", self.text, re.MULTILINE)
        assert found, f"no {name!r} in:\n{self.text}"
        return found

    @property
    def urls(self):
        """The presigned URLs, plain HTTP first."""
        found = re.findall(r"^ +(https?://\S+X-Amz-Signature=\w+)$", self.text, re.MULTILINE)
        assert len(found) == 2, self.text
        return found

    @property
    def commands(self):
        found = re.findall(r"^ +(curl .*)$", self.text, re.MULTILINE)
        assert len(found) == 2, self.text
        return found


@pytest.fixture
def new_user(launch, tmp_path):
    """Starts `tidegate up` in an empty folder.

    The first start writes the configuration and fails where a default port is taken on this machine (other
    suites and people use them); its file is then edited as an operator would.
    """

    def start():
        config = tmp_path / "data/tidegate.yaml"
        if not config.exists():
            first = Node(["up", "--data", "data"], cwd=tmp_path)
            launch.nodes.append(first)
            if first.stderr.wait_for(lambda lines: any(line.endswith(": ready") for line in lines)):
                assert first.stop() == 0
            else:
                assert first.wait_for_exit() == 1
                assert "address already in use" in first.log_tail()
            text = config.read_text()
            for address in DEFAULT_ADDRESSES:
                assert text.count(address) >= 1, text
                text = text.replace(address, f"127.0.0.1:{free_port()}")
            config.write_text(text)
        node = Node(["up", "--data", "data"], cwd=tmp_path)
        launch.nodes.append(node)
        return node, Greeting(node)

    return start


def test_every_printed_line_works_as_printed(new_user, tmp_path):
    node, greeting = new_user()

    http, https = greeting.urls
    ca = tmp_path / greeting.value("local CA")
    for url, more in [(http, {}), (https, {"ca": ca})]:
        reply = curl(url, **more)
        assert (reply.status, reply.body, reply.fields["content-type"]) == (200, SAMPLE, "video/mp4")
    assert reply.version == "2"

    for command in greeting.commands:
        for _ in range(2):
            # In the folder that it was started from, by a shell, as when it is pasted.
            done = subprocess.run(
                ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
            )
            assert re.search(r"^< HTTP/\S+ 206", done.stderr, re.MULTILINE)
            assert re.search(rf"^< content-range: bytes 0-1023/{len(SAMPLE)}", done.stderr, re.M | re.I)
        assert re.search(r"^< cache-status: tidegate; hit", done.stderr, re.M | re.I)
        assert shlex.split(command)[0] == "curl"

    metrics = curl(greeting.value("metrics"))
    assert metrics.status == 200
    assert b'tidegate_requests_total{outcome="hit"' in metrics.body

    address = greeting.value("store (S3)").removeprefix("http://")
    assert f'endpoint_url="http://{address}"' in greeting.value("boto3")
    store = s3.client(
        address, access_key_id=greeting.value("access key id"), secret=greeting.value("secret")
    )
    assert store.get_object(Bucket="media", Key="sample.mp4")["Body"].read() == SAMPLE
    store.put_object(Bucket="media", Key="mine", Body=b"my own")
    assert [found["Key"] for found in store.list_objects_v2(Bucket="media")["Contents"]] == [
        "mine",
        "sample.mp4",
        "sample.png",
    ]
    assert [edge.split(":")[0] for edge in greeting.values("edge")] == ["http", "https"]
    assert node.stop(seconds=5) == 0


def test_a_second_start_keeps_credentials_certificates_and_data(new_user, tmp_path):
    first, greeting = new_user()
    names = ("access key id", "secret")
    credentials = [greeting.value(name) for name in names]
    address = greeting.value("store (S3)").removeprefix("http://")
    store = s3.client(address, access_key_id=credentials[0], secret=credentials[1])
    store.put_object(Bucket="media", Key="mine", Body=b"my own")
    # Whoever has replaced the sample keeps the replacement.
    store.put_object(Bucket="media", Key="sample.png", Body=b"another picture")
    kept = {name: (tmp_path / "data" / name).read_bytes() for name in KEPT_FILES}
    old_url = greeting.urls[0]
    assert first.stop(seconds=5) == 0

    second, greeting = new_user()
    assert [greeting.value(name) for name in names] == credentials
    assert {name: (tmp_path / "data" / name).read_bytes() for name in KEPT_FILES} == kept
    assert store.get_object(Bucket="media", Key="mine")["Body"].read() == b"my own"
    assert store.get_object(Bucket="media", Key="sample.png")["Body"].read() == b"another picture"
    assert curl(old_url).body == SAMPLE
    assert second.stop(seconds=5) == 0


KEPT_FILES = ["ca.pem", "ca.key", "site.pem", "site.key", "secret.key", "tidegate.yaml"]


def test_nothing_that_is_secret_can_be_read_by_others(new_user, tmp_path):
    node, _ = new_user()
    assert node.stop(seconds=5) == 0
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o077 == 0
    public = {data / "ca.pem", data / "site.pem"}
    open_to_others = [
        path
        for path in data.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and path not in public
    ]
    assert open_to_others == []


def test_ctrl_c_during_a_download_finishes_it_and_stops(new_user, tmp_path):
    """A reader in the middle of a body gets the rest of it; a new connection gets nothing."""
    node, greeting = new_user()
    address = greeting.value("store (S3)").removeprefix("http://")
    store = s3.client(
        address, access_key_id=greeting.value("access key id"), secret=greeting.value("secret")
    )
    body = s3.content(24 * s3.MIB, "download")
    store.put_object(Bucket="media", Key="long", Body=body)
    edge = greeting.values("edge")[0].removeprefix("http://")
    url = s3.presign(
        edge, "media", "long", access_key_id=greeting.value("access key id"), secret=greeting.value("secret")
    )
    with subprocess.Popen(["curl", "--silent", url], stdout=subprocess.PIPE) as download:
        received = download.stdout.read(s3.MIB)
        node.process.send_signal(2)
        assert node.stderr.wait_for(lambda lines: any("stopping" in line for line in lines))
        received += download.stdout.read()
        assert download.wait(10) == 0
    assert received == body
    assert node.wait_for_exit(5) == 0


def test_the_five_things_of_the_readme_work_as_written(new_user, tmp_path):
    """The blocks of shell in that section, run one after the other; only names of places are replaced."""
    node, greeting = new_user()
    readme = (REPOSITORY / "README.md").read_text()
    section = readme.split("## Five things to try", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    http, https = (edge.split("//")[1] for edge in greeting.values("edge"))
    script = "\n".join(f"echo '### {number}'\n{block}" for number, block in enumerate(blocks))
    for written, here in {
        "target/release/tidegate": str(BINARY),
        # The environment that runs this has boto3 already.
        "python3 -m venv /tmp/s3 && /tmp/s3/bin/pip install -q boto3": "true",
        "/tmp/s3/bin/python": sys.executable,
        "127.0.0.1:8080": http,
        "127.0.0.1:8443": https,
        "127.0.0.1:9000": greeting.value("store (S3)").split("//")[1],
        "127.0.0.1:9900": node_admin(greeting),
    }.items():
        assert written in script, f"the README no longer says {written}"
        script = script.replace(written, here)
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    # `verify` ends with 1 when it has found something wrong, which is what is shown.
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    _, _, watch, hit, changed, store, count = re.split(r"^### \d\n", done.stdout, flags=re.MULTILINE)
    assert curl(watch.strip()).body == SAMPLE
    statuses = re.findall(r"^HTTP/\S+ (\d+)", hit, re.MULTILINE)
    assert statuses == ["206", "206"]
    first, second = re.findall(r"^cache-status: (.*)$", hit, re.MULTILINE | re.IGNORECASE)
    assert "fwd=" in first and second.startswith("tidegate; hit")
    assert "<Code>AccessDenied</Code>" in changed
    assert store.strip() == "\n".join(readme.splitlines()[:3])
    assert re.search(r'^tidegate_requests_total\{outcome="hit"', count, re.MULTILINE)
    assert node.stop(seconds=5) == 0


def node_admin(greeting):
    return greeting.value("metrics").removeprefix("http://").removesuffix("/metrics")
