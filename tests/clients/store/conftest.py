"""One store for all suites in this folder, and a bucket of its own for each test.

The suites follow the S3 API reference: what they claim holds of AWS as well, unless a test says that it is ours.
"""

import itertools
import re

import httpx
import pytest

from harness import s3
from harness.s3 import CHECKSUMS, MIB

# Files of a folder with their lengths: names that need an encoding, nothing, and enough for three parts.
TREE = {
    "a.txt": 10,
    "empty": 0,
    "sub/ü + 1 %41.bin": 70_000,
    "sub/deep/x": 5,
    "quotes'\"/<&>;": 7,
    "日本語/🎬": 100,
    "big.mp4": 11 * MIB,
}

_numbers = itertools.count()


@pytest.fixture(scope="session")
def store(session_launch):
    return session_launch.store()


@pytest.fixture(scope="session")
def client(store):
    """boto3 with its defaults."""
    return s3.client(store.s3)


@pytest.fixture(scope="session", params=CHECKSUMS)
def either(request, store):
    """boto3 with each behaviour of checksums."""
    return s3.client(store.s3, **CHECKSUMS[request.param])


@pytest.fixture
def bucket(new_bucket):
    """An empty bucket."""
    return new_bucket()


@pytest.fixture
def versioned(client, new_bucket):
    """An empty bucket with versions."""
    name = new_bucket()
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def new_bucket(client, request):
    """Makes empty buckets that are named after the test."""

    def make(**more):
        stem = re.sub("[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_").lower())
        name = f"{next(_numbers)}-{stem[:40]}".strip("-")
        client.create_bucket(Bucket=name, **more)
        return name

    return make


@pytest.fixture(scope="session")
def anonymous(store):
    """Somebody without a key."""
    with httpx.Client(base_url=f"http://{store.s3}") as stranger:
        yield stranger


@pytest.fixture
def tree(tmp_path):
    """A folder with the files of TREE."""
    folder = tmp_path / "tree"
    for name, size in TREE.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(s3.content(size, name))
    return folder
