"""boto3 against the store and through the edge; what was uploaded is read back over every protocol."""

import hashlib
import ssl

import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from harness import s3
from harness.curl import curl
from harness.launch import ACCESS_KEY_ID
from harness.s3 import MIB

SIZES = {"1-byte": 1, "1-mib": MIB, "200-mib": 200 * MIB}
# The store of this version has no multipart uploads, so the SDK is told never to begin one.
ONE_PUT = TransferConfig(multipart_threshold=1024 * MIB)


@pytest.fixture(scope="module")
def node(module_launch):
    """With room for the largest object in each of its two schemes."""
    node = module_launch.up(memory="640MiB")
    s3.client(node.s3).create_bucket(Bucket="suite")
    return node


@pytest.fixture(scope="module")
def uploaded(node, tmp_path_factory):
    """One object per size, put by boto3 with its default checksums: SHA-256 by object key."""
    client = s3.client(node.s3)
    folder = tmp_path_factory.mktemp("uploads")
    digests = {}
    for name, size in SIZES.items():
        file = folder / name
        file.write_bytes(s3.content(size, "boto3"))
        client.upload_file(str(file), "suite", name, Config=ONE_PUT)
        digests[name] = _sha256(file)
        file.unlink()
    return digests


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_objects_come_back_byte_exact_and_the_second_read_is_a_hit(node, uploaded, tmp_path, scheme, name):
    address = node.http if scheme == "http" else node.https
    protocols = [("--http1.1", "1.1")] if scheme == "http" else [("--http1.1", "1.1"), ("--http2", "2")]
    before = node.origin_requests()
    replies = []
    # Each read has a URL of its own: every signature of an object shares one stored response.
    for number in range(2):
        for option, version in protocols:
            url = s3.presign(address, "suite", name, scheme=scheme, expires_seconds=600 + number)
            file = tmp_path / "read"
            reply = curl(url, option, ca=node.ca, output=file)
            assert (reply.status, reply.version) == (200, version)
            assert _sha256(file) == uploaded[name]
            replies.append(reply)
    assert [reply.is_hit for reply in replies] == [False] + [True] * (len(replies) - 1)
    assert node.origin_requests() - before == 1


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_reads_over_tls(node, uploaded, http2):
    url = s3.presign(node.https, "suite", "1-mib", scheme="https")
    with httpx.Client(http2=http2, verify=_trust(node.ca)) as client:
        for _ in range(2):
            response = client.get(url)
            assert response.status_code == 200
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert hashlib.sha256(response.content).hexdigest() == uploaded["1-mib"]
    assert response.headers["cache-status"].startswith("tidegate; hit")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_presigned_upload_through_the_edge_replaces_what_the_cache_holds(node, scheme):
    address = node.http if scheme == "http" else node.https
    key = f"replaced-{scheme}"
    get = s3.presign(address, "suite", key, scheme=scheme)
    put = s3.presign(address, "suite", key, scheme=scheme, method="put_object")
    with httpx.Client(verify=_trust(node.ca)) as client:
        for version in (b"first", b"second, and longer"):
            told = node.purges()
            assert client.put(put, content=version).status_code == 200
            # The store tells the edge of it as well, which may come after the next answer was stored.
            node.wait_for_purge(told)
            for hit in (False, True):
                response = client.get(get)
                assert response.content == version
                assert response.headers["cache-status"].startswith("tidegate; hit") == hit


def test_a_presigned_delete_through_the_edge_takes_the_object_out_of_the_cache(node):
    s3.client(node.s3).put_object(Bucket="suite", Key="deleted", Body=b"soon gone")
    get = s3.presign(node.http, "suite", "deleted")
    assert [curl(get).status for _ in range(2)] == [200, 200]
    delete = s3.presign(node.http, "suite", "deleted", method="delete_object")
    assert curl(delete, "--request", "DELETE").status == 204
    assert curl(get).status == 404


@pytest.mark.parametrize("through", ["store", "edge over HTTP", "edge over HTTPS"])
def test_boto3_does_its_everyday_work(node, through):
    """Header signatures. The edge verifies them against its keys and passes the request on unchanged."""
    client = {
        "store": lambda: s3.client(node.s3),
        "edge over HTTP": lambda: s3.client(node.http),
        # Over TLS the SDK sends aws-chunked bodies with a CRC32 in the trailer.
        "edge over HTTPS": lambda: s3.client(node.https, scheme="https", verify=node.ca),
    }[through]()
    bucket = "work-" + through.replace(" ", "-").lower()
    client.create_bucket(Bucket=bucket)
    assert bucket in [found["Name"] for found in client.list_buckets()["Buckets"]]
    client.head_bucket(Bucket=bucket)

    body = s3.content(3 * MIB + 7, through)
    put = client.put_object(
        Bucket=bucket, Key="films/a b+c.mp4", Body=body, ContentType="video/mp4", Metadata={"made-by": "suite"}
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    for number in range(5):
        client.put_object(Bucket=bucket, Key=f"notes/{number}", Body=b"n" * number)

    head = client.head_object(Bucket=bucket, Key="films/a b+c.mp4")
    assert (head["ContentLength"], head["ContentType"]) == (len(body), "video/mp4")
    assert head["Metadata"] == {"made-by": "suite"}

    whole = client.get_object(Bucket=bucket, Key="films/a b+c.mp4")
    assert whole["Body"].read() == body
    part = client.get_object(Bucket=bucket, Key="films/a b+c.mp4", Range="bytes=1048570-1048585")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert part["Body"].read() == body[1048570:1048586]

    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket=bucket, Key="films/a b+c.mp4", IfMatch='"other"')
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    with pytest.raises(ClientError) as unchanged:
        client.get_object(Bucket=bucket, Key="films/a b+c.mp4", IfNoneMatch=put["ETag"])
    assert unchanged.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304

    listed = client.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [prefix["Prefix"] for prefix in listed["CommonPrefixes"]] == ["films/", "notes/"]
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="notes/", PaginationConfig={"PageSize": 2}
    )
    sizes = {found["Key"]: found["Size"] for page in pages for found in page["Contents"]}
    assert sizes == {f"notes/{number}": number for number in range(5)}

    with pytest.raises(ClientError) as full:
        client.delete_bucket(Bucket=bucket)
    assert full.value.response["Error"]["Code"] == "BucketNotEmpty"
    for key in ["films/a b+c.mp4", *sizes]:
        client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError) as gone:
        client.get_object(Bucket=bucket, Key="notes/1")
    assert gone.value.response["Error"]["Code"] == "NoSuchKey"
    client.delete_bucket(Bucket=bucket)
    assert bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]


def test_header_signed_reads_are_passed_to_the_origin_and_not_stored(node):
    s3.client(node.s3).put_object(Bucket="suite", Key="passed", Body=b"every time")
    client = s3.client(node.http)
    before = node.origin_requests()
    for _ in range(2):
        assert client.get_object(Bucket="suite", Key="passed")["Body"].read() == b"every time"
    records = node.wait_for_records(2, path="/suite/passed", method="GET")
    assert [record["outcome"] for record in records] == ["bypass", "bypass"]
    assert node.origin_requests() - before == 2


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({"secret": "guessed"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "stranger"}, "InvalidAccessKeyId"),
    ],
)
@pytest.mark.parametrize("through", ["s3", "http"])
def test_wrong_credentials_are_refused_by_store_and_edge(node, through, credentials, code):
    client = s3.client(getattr(node, through), **credentials)
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket="suite")
    # The edge answers every cause in the same words; the store says which, as S3 does.
    assert refused.value.response["Error"]["Code"] == ("AccessDenied" if through == "http" else code)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_wrong_checksum_is_refused_and_nothing_is_stored(node, algorithm):
    client = s3.client(node.s3)
    wrong = {"CRC64NVME": "AAAAAAAAAAA=", "SHA1": "A" * 27 + "=", "SHA256": "A" * 43 + "="}
    with pytest.raises(ClientError) as refused:
        client.put_object(
            Bucket="suite",
            Key=f"wrong-{algorithm}",
            Body=b"right bytes",
            **{f"Checksum{algorithm}": wrong.get(algorithm, "AAAAAA==")},
        )
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refused.value.response["Error"]["Code"] == "BadDigest"
    with pytest.raises(ClientError) as absent:
        client.head_object(Bucket="suite", Key=f"wrong-{algorithm}")
    assert absent.value.response["Error"]["Code"] == "404"


def test_the_access_log_holds_no_signature_and_no_secret(node, uploaded):
    url = s3.presign(node.http, "suite", "1-byte")
    marker = {"user_agent": "marker-for-the-log"}
    curl(url, "--user-agent", marker["user_agent"], "--referer", url)
    node.wait_for_records(1, **marker)
    signature = url.rsplit("X-Amz-Signature=", 1)[1]
    everything = "\n".join(node.stdout.lines + node.stderr.lines)
    for secret in (signature, "X-Amz-Credential", f"{ACCESS_KEY_ID}%2F", "a-secret-that-only"):
        # The greeting shows the secret on purpose; it is not the log.
        log = "\n".join(line for line in everything.splitlines() if line.startswith("{") or "INFO" in line)
        assert secret not in log


def _sha256(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _trust(ca):
    return ssl.create_default_context(cafile=str(ca))
