"""The storage class of cold disks, by boto3."""

import datetime

import httpx
import pytest

from harness import s3
from harness.s3 import CHECKSUMS, KIB, MIB

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
# In the row, in a pack, in a file of its own.
SIZES = [KIB, 100 * KIB, 3 * MIB]


@pytest.fixture(scope="module")
def cold(session_launch):
    """A store with three cold disks, any two of which are enough."""
    disks = [{"path": f"cold{number}"} for number in range(3)]
    return session_launch.store(store={"cold": {"disks": disks, "redundancy": {"data": 2, "parity": 1}}})


@pytest.fixture(params=CHECKSUMS)
def client(request, cold):
    return s3.client(cold.s3, **CHECKSUMS[request.param])


def _move(client, bucket, **rule):
    to = {"Date": LONG_AGO, "StorageClass": "STANDARD_IA"}
    rule = {"ID": "old", "Status": "Enabled", "Filter": {}, "Transitions": [to]} | rule
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [rule]


def _apply(cold):
    answer = httpx.post(f"http://{cold.admin}/origin/jobs", json={"run": "lifecycle"}, timeout=60)
    assert answer.status_code == 200
    return answer.json()["done"]


def test_a_rule_moves_what_it_takes_and_clients_see_the_class_alone(cold, client, bucket):
    bodies = {f"old/{size}": s3.content(size, "cold") for size in SIZES} | {"new": b"stays"}
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"a": "b"})
    before = {key: client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED") for key in bodies}
    _move(client, bucket, Filter={"Prefix": "old/"})
    assert _apply(cold) == {"ended": 0, "moved": 3, "bytes_moved": sum(SIZES)}
    listed = {found["Key"]: found["StorageClass"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert listed == {key: "STANDARD" if key == "new" else "STANDARD_IA" for key in bodies}
    for key, body in bodies.items():
        got = client.get_object(Bucket=bucket, Key=key)
        assert got["Body"].read() == body
        assert got.get("StorageClass", "STANDARD") == listed[key]
        after = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        told = client.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["StorageClass"])
        assert told["StorageClass"] == after.pop("StorageClass", "STANDARD") == listed[key]
        for head in [before[key], after]:
            head.pop("ResponseMetadata", None)
        assert after == before[key]


def test_what_is_put_or_copied_is_of_the_class_that_is_asked_for(client, bucket):
    body = s3.content(3 * MIB, "class")
    client.put_object(Bucket=bucket, Key="a", Body=body, StorageClass="STANDARD_IA")
    source = {"Bucket": bucket, "Key": "a"}
    client.copy_object(Bucket=bucket, Key="b", CopySource=source)
    # Onto itself, which is how S3 changes the class of an object.
    client.copy_object(Bucket=bucket, Key="a", CopySource=source, StorageClass="STANDARD")
    client.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "b"}, StorageClass="STANDARD_IA")
    begun = client.create_multipart_upload(Bucket=bucket, Key="d", StorageClass="STANDARD_IA")
    upload = {"Bucket": bucket, "Key": "d", "UploadId": begun["UploadId"]}
    assert client.list_parts(**upload)["StorageClass"] == "STANDARD_IA"
    (under_way,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert under_way["StorageClass"] == "STANDARD_IA"
    part = client.upload_part_copy(**upload, PartNumber=1, CopySource=source)["CopyPartResult"]
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    classes = {found["Key"]: found["StorageClass"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert classes == {"a": "STANDARD", "b": "STANDARD", "c": "STANDARD_IA", "d": "STANDARD_IA"}
    for key in classes:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "ONEZONE_IA", "INTELLIGENT_TIERING"])
def test_a_class_that_there_is_not_is_refused(client, bucket, storage_class):
    refused = (400, "InvalidStorageClass")
    assert s3.refusal(client.put_object, Bucket=bucket, Key="a", Body=b"x", StorageClass=storage_class) == refused
    to = {"Date": LONG_AGO, "StorageClass": storage_class}
    rule = {"Status": "Enabled", "Filter": {}, "Transitions": [to]}
    call = {"Bucket": bucket, "LifecycleConfiguration": {"Rules": [rule]}}
    assert s3.refusal(client.put_bucket_lifecycle_configuration, **call) == refused


def test_stored_bytes_survive_the_loss_of_a_cold_disk(cold, client, bucket):
    body = s3.content(3 * MIB, "lost")
    client.put_object(Bucket=bucket, Key="a", Body=body, StorageClass="STANDARD_IA")
    told = httpx.get(f"http://{cold.admin}/origin", timeout=60).json()
    assert [disk["number"] for disk in told["disks"]] == [0, 128, 129, 130]
    assert told["cold"]["bytes"] >= len(body)
    for shard in (cold.folder / "cold1" / "big").iterdir():
        for file in shard.iterdir():
            file.unlink()
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == body
    answer = httpx.post(f"http://{cold.admin}/origin/jobs", json={"run": "scrub"}, timeout=60)
    assert answer.status_code == 200 and answer.json()["done"]["lost"] == 0
