"""curl at the edge: ranges, conditions, resumed downloads, uploads of every framing, parallel h2 streams."""

import hashlib
import json
import subprocess

import pytest

from harness import s3
from harness.curl import curl
from harness.s3 import KIB, MIB

SIZE = 3 * MIB + 17
BODY = s3.content(SIZE, "curl")
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'

# Scheme and curl's option, by a name that is part of the object keys: lanes do not warm each other's objects.
LANES = {"h1": ("http", "--http1.1"), "h1-tls": ("https", "--http1.1"), "h2": ("https", "--http2")}


@pytest.fixture(scope="module", params=LANES)
def lane(request):
    return request.param


@pytest.fixture(scope="module")
def fetch(node, lane):
    """Fetches an object through the edge over one lane."""
    scheme, option = LANES[lane]
    address = node.http if scheme == "http" else node.https

    def fetch(key, *arguments, method="get_object", **more):
        url = s3.presign(address, "suite", key, scheme=scheme, method=method)
        return curl(url, option, *arguments, ca=node.ca, **more)

    return fetch


@pytest.fixture(scope="module")
def film(node, lane):
    """The key of a film that is new to each lane's part of the cache."""
    key = f"film-{lane}"
    s3.client(node.s3).put_object(Bucket="suite", Key=key, Body=BODY, ContentType="video/mp4")
    return key


RANGES = {
    "0-0": (0, 0),
    "0-1023": (0, 1023),
    "262143-262144": (262143, 262144),
    "1000000-": (1_000_000, SIZE - 1),
    "-1024": (SIZE - 1024, SIZE - 1),
    f"{SIZE - 1}-": (SIZE - 1, SIZE - 1),
    f"5-{SIZE * 9}": (5, SIZE - 1),
    f"-{SIZE * 9}": (0, SIZE - 1),
}


@pytest.mark.parametrize("span", RANGES)
def test_a_range_is_answered_206_with_its_bytes_cold_and_warm(fetch, film, span):
    first, last = RANGES[span]
    for _ in range(2):
        reply = fetch(film, "--range", span)
        assert reply.status == 206
        assert reply.fields["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert reply.fields["content-length"] == str(last - first + 1)
        assert reply.body == BODY[first : last + 1]
    assert reply.is_hit


def test_ranges_on_a_cold_object_do_not_fetch_all_of_it(node, fetch, lane):
    """256 KiB blocks: a KiB at the end costs the origin two of them at the most, not 8 MiB."""
    key = f"cold-{lane}"
    body = s3.content(8 * MIB, key)
    s3.client(node.s3).put_object(Bucket="suite", Key=key, Body=body)
    reply = fetch(key, "--range", f"{7 * MIB}-{7 * MIB + KIB - 1}")
    assert (reply.status, reply.body) == (206, body[7 * MIB : 7 * MIB + KIB])
    start = fetch(key, "--range", "0-99")
    assert (start.status, start.body) == (206, body[:100])
    assert not start.is_hit, "the first fetch took bytes that nobody had asked for"
    held = node.metrics().sum("tidegate_cache_bytes", tier="memory")
    again = fetch(key, "--range", "0-99")
    assert again.is_hit
    # Reading what is there fetches nothing more.
    assert node.metrics().sum("tidegate_cache_bytes", tier="memory") <= held + MIB


@pytest.mark.parametrize("span", [f"{SIZE}-", f"{SIZE * 2}-{SIZE * 3}", "-0"])
def test_a_range_outside_of_the_object_is_answered_416(fetch, film, span):
    reply = fetch(film, "--range", span)
    assert reply.status == 416
    assert reply.fields["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("field", ["Range: bytes=9-2", "Range: bytes=a-b", "Range: lines=1-2", "Range: bytes="])
def test_a_range_that_makes_no_sense_is_ignored(fetch, film, field):
    """RFC 9110 §14.2: an invalid ranges-specifier or an unknown unit is as if it had not been sent."""
    reply = fetch(film, "--header", field)
    assert (reply.status, reply.body) == (200, BODY)


def test_if_range_decides_between_part_and_whole(fetch, film):
    for validator, status in [(ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200)]:
        reply = fetch(film, "--range", "10-19", "--header", f"If-Range: {validator}")
        assert reply.status == status, validator
        assert reply.body == (BODY[10:20] if status == 206 else BODY)


def test_head_is_like_get_without_a_body(fetch, film):
    get = fetch(film)
    head = fetch(film, "--head", method="head_object")
    assert head.status == 200
    assert head.body == b"" or head.report["size_download"] == 0
    for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges"):
        assert head.fields[name] == get.fields[name], name
    assert (get.fields["content-type"], get.fields["etag"]) == ("video/mp4", ETAG)
    assert head.is_hit


def test_head_of_what_is_not_stored_is_answered_as_well(node, fetch, lane):
    key = f"unseen-{lane}"
    s3.client(node.s3).put_object(Bucket="suite", Key=key, Body=b"x" * 1234)
    head = fetch(key, "--head", method="head_object")
    assert (head.status, head.fields["content-length"]) == (200, "1234")
    assert not head.is_hit


def test_conditional_requests_are_answered_304(fetch, film):
    whole = fetch(film)
    modified = whole.fields["last-modified"]
    for field, status in [
        (f"If-None-Match: {ETAG}", 304),
        (f"If-None-Match: W/{ETAG}", 304),
        (f'If-None-Match: "a", {ETAG}', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "a"', 200),
        (f"If-Modified-Since: {modified}", 304),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ]:
        reply = fetch(film, "--header", field)
        assert reply.status == status, field
        assert reply.body == (b"" if status == 304 else BODY), field
        assert reply.fields["etag"] == ETAG


def test_an_interrupted_download_is_resumed(fetch, film, tmp_path):
    file = tmp_path / "film"
    file.write_bytes(BODY[: MIB + 5])
    reply = fetch(film, "--continue-at", "-", output=file)
    assert reply.status == 206
    assert reply.report["size_download"] == SIZE - MIB - 5
    assert file.read_bytes() == BODY


def test_a_download_that_the_client_broke_off_is_resumed_and_the_edge_goes_on(node, fetch, lane, tmp_path):
    """curl is killed in the middle of a body that no socket buffer holds, while the origin still sends it."""
    key = f"broken-off-{lane}"
    body = s3.content(32 * MIB, "broken off")
    s3.client(node.s3).put_object(Bucket="suite", Key=key, Body=body)
    scheme, option = LANES[lane]
    url = s3.presign(node.http if scheme == "http" else node.https, "suite", key, scheme=scheme)
    command = ["curl", "--silent", option, "--cacert", str(node.ca), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as broken:
        begun = broken.stdout.read(MIB)
        broken.kill()
    assert begun == body[:MIB]
    (record,) = node.wait_for_records(1, path=f"/suite/{key}")
    assert record["aborted"] and record["bytes"] < len(body)
    file = tmp_path / "film"
    file.write_bytes(begun)
    assert fetch(key, "--continue-at", "-", output=file).status == 206
    assert file.read_bytes() == body


UPLOADS = {
    # curl waits for the 100 before it sends a body this large.
    "with Expect: 100-continue": ["--header", "Expect: 100-continue", "--expect100-timeout", "30"],
    "without Expect": ["--header", "Expect:"],
}


@pytest.mark.parametrize("how", UPLOADS)
def test_an_upload_through_the_edge_arrives_whole(node, fetch, lane, tmp_path, how):
    key = f"upload-{lane}-{len(how)}"
    body = s3.content(5 * MIB, key)
    file = tmp_path / "body"
    file.write_bytes(body)
    reply = fetch(key, "--upload-file", file, *UPLOADS[how], method="put_object")
    assert reply.status == 200
    assert reply.fields["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
    # curl would have waited for 30 s without the interim response.
    assert reply.report["time_total"] < 20
    assert fetch(key).body == body
    assert s3.client(node.s3).get_object(Bucket="suite", Key=key)["Body"].read() == body


def test_an_upload_of_unknown_length_is_refused_by_the_store_with_its_code(node, fetch, lane):
    """S3 wants a length (MissingContentLength); the edge passes chunked bodies on and the answer back."""
    scheme, option = LANES[lane]
    address = node.http if scheme == "http" else node.https
    url = s3.presign(address, "suite", "chunked", scheme=scheme, method="put_object")
    command = ["curl", "--silent", "--show-error", "--max-time", "30", option, "--cacert", str(node.ca)]
    command += ["--upload-file", "-", "--write-out", "%{http_code}", url]
    done = subprocess.run(command, input=b"c" * 200_000, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    document, status = done.stdout[:-3].decode(), int(done.stdout[-3:])
    if status == 200:
        assert s3.client(node.s3).get_object(Bucket="suite", Key="chunked")["Body"].read() == b"c" * 200_000
    else:
        assert status == 411
        assert "<Code>MissingContentLength</Code>" in document


def test_parallel_transfers_share_one_h2_connection(node, tmp_path):
    client = s3.client(node.s3)
    bodies = {f"parallel-{number}": s3.content(300_000 + number, number) for number in range(40)}
    command = ["curl", "--silent", "--show-error", "--http2", "--cacert", str(node.ca), "--max-time", "60"]
    # The transfers begin once it is known whether the connection can be shared.
    command += ["--parallel", "--parallel-max", "40", "--write-out", "%{json}\n"]
    for key, body in bodies.items():
        client.put_object(Bucket="suite", Key=key, Body=body)
        url = s3.presign(node.https, "suite", key, scheme="https")
        command += ["--output", str(tmp_path / key), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == 40
    assert {(report["http_code"], report["http_version"]) for report in reports} == {(200, "2")}
    assert sum(report["num_connects"] for report in reports) == 1
    for key, body in bodies.items():
        assert (tmp_path / key).read_bytes() == body


def test_kept_connections_alternate_between_cache_and_pass(node, tmp_path):
    """One HTTP/1.1 connection: cached GETs answered by our loop, PUT and DELETE by the proxy behind it."""
    get = s3.presign(node.http, "suite", "alternating")
    put = s3.presign(node.http, "suite", "alternating", method="put_object")
    delete = s3.presign(node.http, "suite", "alternating", method="delete_object")
    file = tmp_path / "body"
    file.write_bytes(b"alternating " * 9000)
    steps = [
        ["--upload-file", str(file), put],
        [get],
        [get],
        ["--request", "DELETE", delete],
        [get],
        ["--upload-file", str(file), put],
        [get],
    ]
    command = ["curl"]
    for number, step in enumerate(steps):
        command += ["--next"] if number else []
        command += ["--silent", "--show-error", "--http1.1", "--max-time", "30", "--header", "Expect:"]
        command += ["--output", str(tmp_path / f"out-{number}"), "--write-out", "%{json}\n", *step]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["http_code"] for report in reports] == [200, 200, 200, 204, 404, 200, 200]
    assert [report["num_connects"] for report in reports] == [1] + [0] * 6
    for number in (1, 2, 6):
        assert (tmp_path / f"out-{number}").read_bytes() == file.read_bytes()


def test_every_reply_says_via_and_a_request_id_that_is_in_the_log(node, fetch, film):
    reply = fetch(film, "--range", "0-9")
    assert "tidegate" in reply.fields["via"]
    assert reply.fields["age"].isdigit()
    (record,) = node.wait_for_records(1, request_id=reply.fields["x-request-id"])
    assert (record["status"], record["bytes"], record["range"]) == (206, 10, "bytes=0-9")
    assert record["content_range"] == f"bytes 0-9/{SIZE}"
