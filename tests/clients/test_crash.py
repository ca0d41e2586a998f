"""kill -9 of everything in the middle of uploads: what was acknowledged is there, nothing is there by half.

ROUNDS (default 30) kills; SEED replays a run.
"""

import hashlib
import http.client
import os
import random
import socket
import threading
from urllib.parse import urlsplit

import pytest

from harness import s3
from harness.node import run
from harness.ports import free_port
from harness.s3 import KIB, MIB

ROUNDS = int(os.environ.get("ROUNDS", "30"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
UPLOADERS = 4
# Inline in the row, appended to a pack, and a file of its own: each size class of the store, and both sides
# of its limits.
SIZES = [0, 1, 4 * KIB, 4 * KIB + 1, 70 * KIB, MIB, MIB + 1, 5 * MIB]
PIECE_BYTES = 64 * KIB


class Ledger:
    """What the uploaders know: per object key what was acknowledged, and what is on its way."""

    def __init__(self):
        self.lock = threading.Lock()
        # Digest of the last acknowledged version; several keys are written again and again.
        self.acknowledged = {}
        # Digest of the version that was never answered: it may have been committed, whole.
        self.pending = {}

    def begin(self, key, body):
        with self.lock:
            self.pending[key] = _digest(body)

    def acknowledge(self, key):
        with self.lock:
            self.acknowledged[key] = self.pending.pop(key)


class Uploader(threading.Thread):
    """Puts objects one after the other until the node is gone."""

    def __init__(self, number, seed, node, ledger, trigger):
        super().__init__(daemon=True)
        self.number, self.random = number, random.Random(seed)
        self.node, self.ledger, self.trigger = node, ledger, trigger
        self.fault = None

    def run(self):
        try:
            while self._put():
                pass
        except Exception as fault:  # noqa: BLE001 - told to the test, which fails
            self.fault = fault

    def _put(self):
        key = f"u{self.number}-{self.random.randrange(12)}"
        size = self.random.choice(SIZES)
        body = s3.content(size, self.random.random())
        # Half of the uploaders go through the edge, whose pass lane must not acknowledge too early either.
        address = self.node.http if self.number % 2 else self.node.s3
        url = urlsplit(s3.presign(address, "crash", key, method="put_object"))
        self.ledger.begin(key, body)
        try:
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.putrequest("PUT", f"{url.path}?{url.query}")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            for start in range(0, size, PIECE_BYTES):
                connection.send(body[start : start + PIECE_BYTES])
                self.trigger.count(min(PIECE_BYTES, size - start))
            response = connection.getresponse()
            text = response.read()
            connection.close()
        except (OSError, http.client.HTTPException):
            if not self.trigger.pulled.is_set():
                raise
            return False
        if response.status != 200:
            # An edge whose store was killed a moment earlier may still say so: that is no acknowledgement.
            if self.trigger.pulled.is_set() and response.status >= 500:
                return False
            raise AssertionError(f"PUT {key} ({size} bytes): {response.status} {text!r}")
        self.ledger.acknowledge(key)
        self.trigger.count(0)
        return True


class Trigger:
    """Kills the node at a chosen byte or at a chosen number of events, whatever the uploaders are doing."""

    def __init__(self, node, after_bytes):
        self.node, self.left = node, after_bytes
        self.pulled = threading.Event()
        self._lock = threading.Lock()

    def count(self, sent_bytes):
        with self._lock:
            # Small objects must bring the end nearer as well.
            self.left -= sent_bytes + 8 * KIB
            if self.left <= 0 and not self.pulled.is_set():
                self.pulled.set()
                self.node.kill()


def test_every_acknowledged_object_survives_and_none_is_there_by_half(launch):
    print(f"seed {SEED}, {ROUNDS} rounds")
    chance = random.Random(SEED)
    node = launch.up()
    folder = node.folder
    s3.client(node.s3).create_bucket(Bucket="crash")
    ledger = Ledger()
    acknowledged = 0
    for number in range(ROUNDS):
        trigger = Trigger(node, after_bytes=chance.randrange(100 * KIB, 24 * MIB))
        uploaders = [
            Uploader(index, chance.randrange(2**32), node, ledger, trigger) for index in range(UPLOADERS)
        ]
        for uploader in uploaders:
            uploader.start()
        for uploader in uploaders:
            uploader.join(60)
            assert not uploader.is_alive(), f"round {number}, seed {SEED}: an uploader hangs"
            assert uploader.fault is None, f"round {number}, seed {SEED}: {uploader.fault!r}"
        node = launch.up(folder=folder)
        acknowledged += _compare(node, ledger, f"round {number}, seed {SEED}")
    print(f"{acknowledged} comparisons after {ROUNDS} kills, {len(ledger.acknowledged)} object keys")
    assert acknowledged > 0


def _compare(node, ledger, when):
    """Lists the bucket, gets every object, and holds both to the ledger; returns how many were compared."""
    client = s3.client(node.s3)
    listed = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="crash"):
        for found in page.get("Contents", []):
            listed[found["Key"]] = found
    missing = ledger.acknowledged.keys() - listed.keys()
    assert not missing, f"{when}: acknowledged and gone: {sorted(missing)}"
    for key, found in listed.items():
        got = client.get_object(Bucket="crash", Key=key)
        body = got["Body"].read()
        allowed = {ledger.acknowledged.get(key), ledger.pending.get(key)} - {None}
        assert _digest(body) in allowed, f"{when}: {key} has {len(body)} bytes that nobody put"
        assert len(body) == found["Size"] == got["ContentLength"]
        assert found["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        # From here on this is the version that must stay.
        ledger.acknowledged[key] = _digest(body)
    # What was never answered and is not there has had no effect, and must have none later.
    ledger.pending.clear()
    return len(listed)


def _digest(body):
    return hashlib.sha256(body).hexdigest()


def test_a_taken_port_is_named_and_nothing_is_damaged(launch):
    node = launch.up()
    s3.client(node.s3).put_object(Bucket="media", Key="kept", Body=b"kept")
    assert node.stop() == 0
    with socket.socket() as squatter:
        host, port = node.s3.split(":")
        squatter.bind((host, int(port)))
        squatter.listen()
        code, _, stderr = run("up", "--data", node.folder)
        assert code == 1
        assert f"cannot listen on {node.s3} (origin.address): address already in use" in stderr
        assert f"(pid {os.getpid()})" in stderr
    again = launch.up(folder=node.folder)
    assert s3.client(again.s3).get_object(Bucket="media", Key="kept")["Body"].read() == b"kept"


def test_a_second_copy_on_the_same_data_is_refused_and_the_first_goes_on(launch):
    node = launch.up()
    code, _, stderr = run("up", "--data", node.folder)
    assert code == 1
    assert f"{node.folder} is in use by another tidegate (pid {node.pid})" in stderr
    s3.client(node.s3).put_object(Bucket="media", Key="after", Body=b"unharmed")
    assert s3.client(node.s3).get_object(Bucket="media", Key="after")["Body"].read() == b"unharmed"


def test_two_stores_on_one_data_folder_are_refused(launch):
    """The same folder under another configuration, whose addresses are free."""
    first = launch.store()
    config = first.folder / "second.yaml"
    text = (first.folder / "tidegate.yaml").read_text()
    for address in (first.admin, first.s3):
        text = text.replace(address, f"127.0.0.1:{free_port()}")
    config.write_text(text)
    code, _, stderr = run("origin", "--config", config)
    assert code == 1
    assert str(first.folder / "origin") in stderr
    assert s3.client(first.s3).list_buckets()["Buckets"] == []


def test_an_unwritable_folder_is_named(tmp_path):
    # Not even root can make a folder below a file or below /proc.
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file / "data", "/proc/tidegate"):
        code, _, stderr = run("up", "--data", folder)
        assert code == 1
        assert f"cannot create the folder {folder}" in stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    code, _, stderr = run("up", "--data", folder)
    assert code == 1
    assert str(folder) in stderr
