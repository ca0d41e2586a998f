"""Requests that Signature Version 2 signs in their `Authorization` header: boto3, s3cmd, and some that are almost right."""

import base64
import hashlib
import hmac
from email.utils import formatdate
from time import time

import httpx
import pytest

from harness import programs, s3
from harness.launch import ACCESS_KEY_ID
from harness.s3 import MIB

KEY_ID, SECRET = "of-2006", "a-secret-of-twenty-years-ago"
BUCKET = "version-2"


@pytest.fixture(scope="module")
def store(module_launch):
    """A store with a key that may sign with Version 2; the other one may not."""
    return module_launch.store(credentials=[{"access_key_id": KEY_ID, "secret": SECRET, "allow_sigv2": True}])


@pytest.fixture(scope="module")
def client(store):
    client = s3.client(store.s3, access_key_id=KEY_ID, secret=SECRET, signature_version="s3")
    client.create_bucket(Bucket=BUCKET)
    return client


def test_boto3_works_with_it(client):
    key = "dir/a b+ü&=;:%41.txt"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"one", ContentType="text/plain", Metadata={"by": "  joe "})
    told = client.get_object(Bucket=BUCKET, Key=key, ResponseContentType="a/b; c=d")
    assert (told["Body"].read(), told["ContentType"], told["Metadata"]) == (b"one", "a/b; c=d", {"by": "joe"})
    assert client.get_object(Bucket=BUCKET, Key=key, Range="bytes=1-1")["Body"].read() == b"n"
    client.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read")
    assert len(client.get_object_acl(Bucket=BUCKET, Key=key)["Grants"]) == 2
    client.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})

    whole = s3.content(6 * MIB, "version 2")
    upload = {"Bucket": BUCKET, "Key": "parts"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts = [
        {"PartNumber": n + 1, "ETag": client.upload_part(**upload, PartNumber=n + 1, Body=body)["ETag"]}
        for n, body in enumerate([whole[: 5 * MIB], whole[5 * MIB :]])
    ]
    assert len(client.list_parts(**upload)["Parts"]) == 2
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket=BUCKET, Key="parts")["Body"].read() == whole

    client.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": key})
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 1})
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert keys == sorted(["copy", key, "parts"])
    (prefix,) = client.list_objects(Bucket=BUCKET, Delimiter="/")["CommonPrefixes"]
    assert prefix["Prefix"] == "dir/"
    assert BUCKET in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    assert "Contents" not in client.list_objects_v2(Bucket=BUCKET, Prefix="")


def test_a_key_needs_to_be_let(store, client):
    put = {"Bucket": BUCKET, "Key": "k", "Body": b""}
    modern = s3.client(store.s3, signature_version="s3")
    assert s3.refusal(modern.put_object, **put) == (400, "InvalidRequest")
    assert modern.meta.config.signature_version == "s3" and ACCESS_KEY_ID != KEY_ID
    for key_id, secret, code in [
        (KEY_ID, "another", "SignatureDoesNotMatch"),
        ("nobody", SECRET, "InvalidAccessKeyId"),
    ]:
        other = s3.client(store.s3, access_key_id=key_id, secret=secret, signature_version="s3")
        assert s3.refusal(other.put_object, **put) == (403, code)


def _get(store, target, *, fields, signed=None, scheme="AWS "):
    """A GET of `target`, signed as one of `signed`."""
    text = f"GET\n\n\n{fields.get('date', '')}\n"
    text += "".join(f"{name}:{value}\n" for name, value in sorted(fields.items()) if name.startswith("x-amz-"))
    digest = hmac.new(SECRET.encode(), (text + (signed or target)).encode(), hashlib.sha1).digest()
    fields["authorization"] = f"{scheme}{KEY_ID}:{base64.b64encode(digest).decode()}"
    reply = httpx.get(f"http://{store.s3}{target}", headers=fields)
    code = reply.text.partition("<Code>")[2].partition("</Code>")[0]
    return reply.status_code, code


@pytest.mark.parametrize("name", ["date", "x-amz-date"])
def test_it_is_dated_within_fifteen_minutes(store, client, name):
    for value, expected in [
        (formatdate(usegmt=True), (200, "")),
        (formatdate(), (200, "")),
        (formatdate(time() - 890, usegmt=True), (200, "")),
        (formatdate(time() + 890, usegmt=True), (200, "")),
        (formatdate(time() - 910, usegmt=True), (403, "RequestTimeTooSkewed")),
        (formatdate(time() + 910, usegmt=True), (403, "RequestTimeTooSkewed")),
        ("yesterday", (403, "AccessDenied")),
    ]:
        # What `-0000` says, `+0000` says as well.
        fields = {name: value.replace("-0000", "+0000")}
        assert _get(store, f"/{BUCKET}", fields=fields) == expected, value
    assert _get(store, f"/{BUCKET}", fields={}) == (403, "AccessDenied")


def test_what_it_does_not_cover_makes_no_other_request(store, client):
    def get(target, **more):
        return _get(store, target, fields={"date": formatdate(usegmt=True)}, **more)

    bucket = f"/{BUCKET}"
    assert get(f"{bucket}?prefix=a&max-keys=1", signed=bucket) == (200, "")
    assert get(f"{bucket}?acl") == (200, "")
    assert get(f"{bucket}?acl", signed=bucket) == (403, "SignatureDoesNotMatch")
    assert get(f"{bucket}?policyStatus", signed=bucket) == (403, "AccessDenied")
    assert get(f"{bucket}?X-Amz-Signature=0", signed=bucket) == (400, "InvalidRequest")
    assert get(f"{bucket}?AWSAccessKeyId={KEY_ID}&Expires=9&Signature=x", signed=bucket) == (400, "InvalidRequest")
    assert get(bucket, scheme="AWS " + "x" * 100) == (403, "InvalidAccessKeyId")
    reply = httpx.get(f"http://{store.s3}{bucket}", headers={"authorization": "AWS HAHAHA"})
    assert (reply.status_code, "<Code>InvalidArgument</Code>" in reply.text) == (400, True)


def test_s3cmd_works_with_it(store, client, tmp_path):
    s3cmd = programs.s3cmd(tmp_path, store.s3, KEY_ID, SECRET, signature_v2="True")
    file = tmp_path / "big ü.bin"
    file.write_bytes(s3.content(6 * MIB, "s3cmd"))
    s3cmd("put", file, f"s3://{BUCKET}/s3cmd/ü+ 1.bin")
    assert f"s3://{BUCKET}/s3cmd/ü+ 1.bin" in s3cmd("ls", "--recursive", f"s3://{BUCKET}/s3cmd/").text
    s3cmd("get", f"s3://{BUCKET}/s3cmd/ü+ 1.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert s3cmd("info", f"s3://{BUCKET}/s3cmd/ü+ 1.bin").text
    s3cmd("del", f"s3://{BUCKET}/s3cmd/ü+ 1.bin")
