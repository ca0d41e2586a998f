"""minio-py, which signs for itself and reads its own XML."""

import io
import json
from datetime import timedelta

import httpx
import pytest
from minio.commonconfig import ENABLED, ComposeSource, CopySource, Filter, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.versioningconfig import VersioningConfig

from harness import checksums, s3, signers
from harness.s3 import KIB, MIB


@pytest.fixture(scope="module")
def minio(store):
    return signers.minio_client(f"http://{store.s3}")


def _code(call, *arguments, **options):
    with pytest.raises(S3Error) as refused:
        call(*arguments, **options)
    return refused.value.code


def _read(answer):
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def test_buckets(minio, bucket):
    other = f"{bucket}-other"
    minio.make_bucket(other)
    assert minio.bucket_exists(other)
    assert other in [found.name for found in minio.list_buckets()]
    minio.make_bucket(other)
    minio.remove_bucket(other)
    assert not minio.bucket_exists(other)
    assert _code(minio.remove_bucket, other) == "NoSuchBucket"


@pytest.mark.parametrize("size", [0, 1, 70 * KIB, 11 * MIB])
def test_objects_go_there_and_back(minio, bucket, tmp_path, size):
    body = s3.content(size, "minio")
    name = "films/ü + %41.mp4"
    put = minio.put_object(
        bucket, name, io.BytesIO(body), size, content_type="video/mp4", metadata={"made-by": "suite"}, part_size=5 * MIB
    )
    found = minio.stat_object(bucket, name)
    assert (found.size, found.etag, found.content_type) == (size, put.etag, "video/mp4")
    assert found.metadata["x-amz-meta-made-by"] == "suite"
    assert _read(minio.get_object(bucket, name)) == body
    if size > 1:
        assert _read(minio.get_object(bucket, name, offset=1, length=size // 2)) == body[1 : 1 + size // 2]
    file = tmp_path / "file"
    file.write_bytes(body)
    minio.fput_object(bucket, "from-file", str(file), part_size=5 * MIB)
    minio.fget_object(bucket, "from-file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == body
    # Without a length it uploads part by part.
    minio.put_object(bucket, "streamed", io.BytesIO(body), -1, part_size=5 * MIB)
    assert _read(minio.get_object(bucket, "streamed")) == body
    minio.remove_object(bucket, name)
    assert _code(minio.stat_object, bucket, name) == "NoSuchKey"


def test_listings_copies_and_deletions(minio, bucket):
    names = [f"dir/{number:02}" for number in range(12)] + ["top", "ü/ +"]
    for name in names:
        minio.put_object(bucket, name, io.BytesIO(name.encode()), len(name.encode()))
    assert [found.object_name for found in minio.list_objects(bucket, recursive=True)] == names
    assert sorted(found.object_name for found in minio.list_objects(bucket)) == ["dir/", "top", "ü/"]
    assert [f.object_name for f in minio.list_objects(bucket, recursive=True, use_api_v1=True)] == names
    after = minio.list_objects(bucket, recursive=True, start_after="dir/09")
    assert [found.object_name for found in after] == names[10:]
    minio.copy_object(bucket, "copied", CopySource(bucket, "ü/ +"))
    assert _read(minio.get_object(bucket, "copied")) == "ü/ +".encode()
    errors = minio.remove_objects(bucket, [DeleteObject(name) for name in names])
    assert list(errors) == []
    assert [found.object_name for found in minio.list_objects(bucket, recursive=True)] == ["copied"]


def test_an_object_is_composed_of_others(minio, bucket):
    pieces = [s3.content(size, "composed") for size in [5 * MIB, 6 * MIB, 10]]
    for number, piece in enumerate(pieces):
        minio.put_object(bucket, str(number), io.BytesIO(piece), len(piece), part_size=10 * MIB)
    minio.compose_object(bucket, "composed", [ComposeSource(bucket, str(number)) for number in range(3)])
    assert _read(minio.get_object(bucket, "composed")) == b"".join(pieces)


def test_urls_and_forms(minio, bucket):
    put = minio.presigned_put_object(bucket, "ü +", expires=timedelta(minutes=1))
    assert httpx.put(put, content=b"by url").status_code == 200
    get = minio.presigned_get_object(bucket, "ü +", response_headers={"response-content-type": "text/x"})
    answer = httpx.get(get)
    assert (answer.content, answer.headers["content-type"]) == (b"by url", "text/x")
    delete = minio.get_presigned_url("DELETE", bucket, "ü +")
    assert httpx.delete(delete).status_code == 204


def test_versions(minio, versioned):
    assert minio.get_bucket_versioning(versioned).status == ENABLED
    first = minio.put_object(versioned, "a", io.BytesIO(b"first"), 5).version_id
    second = minio.put_object(versioned, "a", io.BytesIO(b"second"), 6).version_id
    assert _read(minio.get_object(versioned, "a", version_id=first)) == b"first"
    minio.remove_object(versioned, "a")
    found = [(v.version_id, v.is_delete_marker) for v in minio.list_objects(versioned, include_version=True)]
    assert {version for version, marker in found if not marker} == {first, second}
    assert [marker for _, marker in found].count(True) == 1
    errors = minio.remove_objects(versioned, [DeleteObject("a", version) for version, _ in found])
    assert list(errors) == []
    assert list(minio.list_objects(versioned, include_version=True)) == []
    minio.set_bucket_versioning(versioned, VersioningConfig("Suspended"))
    assert minio.get_bucket_versioning(versioned).status == "Suspended"


def test_settings_of_a_bucket(minio, bucket):
    text = s3.policy(bucket, {"Action": "s3:GetObject"})
    minio.set_bucket_policy(bucket, text)
    assert json.loads(minio.get_bucket_policy(bucket)) == json.loads(text)
    minio.delete_bucket_policy(bucket)
    assert _code(minio.get_bucket_policy, bucket) == "NoSuchBucketPolicy"
    tags = Tags.new_bucket_tags()
    tags["a"] = "1"
    minio.set_bucket_tags(bucket, tags)
    assert minio.get_bucket_tags(bucket) == {"a": "1"}
    minio.delete_bucket_tags(bucket)
    assert minio.get_bucket_tags(bucket) is None
    rule = Rule(ENABLED, rule_filter=Filter(prefix="logs/"), rule_id="logs", expiration=Expiration(days=3))
    minio.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
    (found,) = minio.get_bucket_lifecycle(bucket).rules
    assert (found.rule_id, found.expiration.days, found.rule_filter.prefix) == ("logs", 3, "logs/")
    minio.delete_bucket_lifecycle(bucket)
    assert minio.get_bucket_lifecycle(bucket) is None


def test_tags_of_an_object(minio, bucket):
    tags = Tags.new_object_tags()
    tags["a b"] = "ü"
    minio.put_object(bucket, "a", io.BytesIO(b"x"), 1, tags=tags)
    assert minio.get_object_tags(bucket, "a") == {"a b": "ü"}
    minio.set_object_tags(bucket, "a", tags)
    minio.delete_object_tags(bucket, "a")
    assert minio.get_object_tags(bucket, "a") is None
    assert minio.stat_object(bucket, "a").etag == checksums.etag(b"x").strip('"')
