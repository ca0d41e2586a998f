"""Random operations by boto3, compared with a model: STORE_STEPS (400) of them, on one plain and one versioned bucket."""

import os
import random
from dataclasses import dataclass, field

import pytest

from harness import checksums, s3
from harness.s3 import KIB, MIB

STEPS = int(os.environ.get("STORE_STEPS", "400"))
SEED = int(os.environ.get("STORE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
KEYS = [f"{folder}{name}" for folder in ["", "a/", "a/b/", "ü "] for name in "xyz"]
# Both sides of where the store changes how it keeps bytes; the large ones are rare.
SIZES = [0, 1, 100, 4 * KIB, 4 * KIB + 1, 64 * KIB, 64 * KIB + 1, 200 * KIB]
LARGE = [MIB, MIB + 1, 3 * MIB]


@dataclass
class Version:
    """A version of an object; without a body it is a marker."""

    id: str
    body: bytes | None
    etag: str = ""
    tags: dict = field(default_factory=dict)


class Model:
    """What a bucket must hold: for each key its versions, the newest first."""

    def __init__(self, client, bucket, versioned, chance):
        self.client, self.bucket, self.versioned, self.chance = client, bucket, versioned, chance
        self.keys = {}

    def latest(self, key):
        versions = self.keys.get(key)
        return versions[0] if versions and versions[0].body is not None else None

    def add(self, key, version):
        versions = self.keys.setdefault(key, [])
        if not self.versioned:
            versions.clear()
        versions.insert(0, version)

    def target(self, key):
        return {"Bucket": self.bucket, "Key": key}

    def any_key(self):
        return self.chance.choice(KEYS)

    def any_object(self):
        """A key that has an object, or None."""
        there = sorted(key for key in self.keys if self.latest(key))
        return self.chance.choice(there) if there else None

    def any_body(self):
        size = self.chance.choice(LARGE if self.chance.random() < 0.05 else SIZES)
        return self.chance.randbytes(size)

    def put(self):
        key, body = self.any_key(), self.any_body()
        current = self.latest(key)
        condition = self.chance.choice([{}, {}, {"IfNoneMatch": "*"}, {"IfMatch": current.etag if current else '"x"'}])
        call = self.target(key) | {"Body": body} | condition
        if ("IfNoneMatch" in condition and current) or ("IfMatch" in condition and not current):
            assert s3.refusal(self.client.put_object, **call)[0] in (404, 412)
            return
        answer = self.client.put_object(**call)
        self.add(key, Version(answer.get("VersionId", "null"), body, checksums.etag(body)))

    def delete(self):
        key = self.any_key()
        answer = self.client.delete_object(**self.target(key))
        if self.versioned:
            assert answer["DeleteMarker"] is True
            self.add(key, Version(answer["VersionId"], None))
        else:
            self.keys.pop(key, None)

    def delete_version(self):
        key = self.any_key()
        versions = self.keys.get(key)
        if not versions:
            return
        version = self.chance.choice(versions)
        self.client.delete_object(VersionId=version.id, **self.target(key))
        versions.remove(version)

    def delete_many(self):
        keys = self.chance.sample(KEYS, 4)
        deletion = {"Objects": [{"Key": key} for key in keys]}
        answer = self.client.delete_objects(Bucket=self.bucket, Delete=deletion)
        markers = {found["Key"]: found.get("DeleteMarkerVersionId") for found in answer["Deleted"]}
        for key in keys:
            if self.versioned:
                self.add(key, Version(markers[key], None))
            else:
                self.keys.pop(key, None)

    def copy(self):
        source, key = self.any_object(), self.any_key()
        if source is None or source == key:
            return
        version = self.latest(source)
        answer = self.client.copy_object(CopySource={"Bucket": self.bucket, "Key": source}, **self.target(key))
        # What was uploaded in parts becomes one piece; its tag is the store's to tell.
        etag = answer["CopyObjectResult"]["ETag"]
        self.add(key, Version(answer.get("VersionId", "null"), version.body, etag, dict(version.tags)))

    def tag(self):
        key = self.any_object()
        if key is None:
            return
        tags = {f"k{number}": str(self.chance.random()) for number in range(self.chance.randrange(4))}
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        self.client.put_object_tagging(Tagging={"TagSet": tag_set}, **self.target(key))
        self.latest(key).tags = tags

    def upload_in_parts(self):
        key, bodies = self.any_key(), [self.any_body()]
        if self.chance.random() < 0.1:
            bodies.insert(0, self.chance.randbytes(5 * MIB))
        upload = self.target(key) | {"UploadId": self.client.create_multipart_upload(**self.target(key))["UploadId"]}
        parts = []
        for number, body in enumerate(bodies, 1):
            etag = self.client.upload_part(PartNumber=number, Body=body, **upload)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        if self.chance.random() < 0.2:
            self.client.abort_multipart_upload(**upload)
            return
        answer = self.client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
        self.add(key, Version(answer.get("VersionId", "null"), b"".join(bodies), checksums.multipart_etag(bodies)))

    def read(self):
        key = self.any_key()
        version = self.latest(key)
        if version is None:
            assert s3.refusal(self.client.get_object, **self.target(key)) == (404, "NoSuchKey")
            return
        if version.body and self.chance.random() < 0.5:
            first = self.chance.randrange(len(version.body))
            last = self.chance.randrange(first, len(version.body))
            part = self.client.get_object(Range=f"bytes={first}-{last}", **self.target(key))
            assert part["Body"].read() == version.body[first : last + 1]
            return
        self.compare(key, version, {})

    def compare(self, key, version, named):
        got = self.client.get_object(**named, **self.target(key))
        assert got["Body"].read() == version.body
        assert (got["ETag"], got.get("TagCount", 0)) == (version.etag, len(version.tags))

    def list(self):
        page = self.client.list_objects_v2(Bucket=self.bucket)
        found = {entry["Key"]: (entry["Size"], entry["ETag"]) for entry in page.get("Contents", [])}
        there = {key: self.latest(key) for key in self.keys if self.latest(key)}
        assert found == {key: (len(version.body), version.etag) for key, version in there.items()}

    def compare_everything(self):
        """Every version, and that there is no other."""
        self.list()
        wanted = {(key, version.id) for key, versions in self.keys.items() for version in versions}
        found = set()
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            found |= {(e["Key"], e["VersionId"]) for e in page.get("Versions", []) + page.get("DeleteMarkers", [])}
        assert found == wanted
        for key, versions in self.keys.items():
            for version in versions:
                if version.body is not None:
                    self.compare(key, version, {"VersionId": version.id})
        assert "Uploads" not in self.client.list_multipart_uploads(Bucket=self.bucket)


@pytest.mark.parametrize("versions", ["plain", "versioned"])
def test_whatever_is_done_the_store_holds_what_the_model_holds(client, request, versions):
    print(f"STORE_SEED={SEED}")
    bucket = request.getfixturevalue({"plain": "bucket", "versioned": "versioned"}[versions])
    chance = random.Random(f"{SEED} {versions}")
    model = Model(client, bucket, versions == "versioned", chance)
    steps = [model.put] * 6 + [model.read] * 5 + [model.delete, model.delete_many, model.copy, model.copy]
    steps += [model.tag, model.list, model.upload_in_parts]
    if model.versioned:
        steps += [model.delete_version] * 3
    for _ in range(STEPS // 2):
        chance.choice(steps)()
    model.compare_everything()
