"""An edge before a private S3: visitors have keys of the edge, the store knows only the edge itself."""

import http.server
import re
import threading

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import raw, s3
from harness.curl import curl
from harness.launch import ACCESS_KEY_ID, REGION, SECRET

BUCKET = "suite"
VISITOR, VISITORS_SECRET = "visitor", "what-only-visitors-know"


def _edge(launch, server, *, host=None):
    """An edge whose visitors are `VISITOR`, and which asks `server` as `ACCESS_KEY_ID`."""
    visitors_secret = launch.folder / "visitor.key"
    visitors_secret.touch(mode=0o600)
    visitors_secret.write_text(VISITORS_SECRET)
    signing = {"region": REGION, "credentials": {"access_key_id": ACCESS_KEY_ID, "secret_file": "secret.key"}}
    if host:
        signing["host"] = host
    return launch.edge(
        [server],
        edge={
            "origins": {"private": {"servers": [server], "signing": signing}},
            "routes": [
                {"name": "open", "path": f"/{BUCKET}/public/", "origin": "private", "access": "public"},
                {"name": "closed", "path": "/", "origin": "private", "access": "signed"},
            ],
            "signing": {"keys": [{"id": VISITOR, "secret_file": str(visitors_secret)}]},
            "cache": {"memory": "64MiB", "default_ttl": "1h"},
        },
    )


@pytest.fixture(scope="module")
def store(module_launch):
    store = module_launch.store()
    client = s3.client(store.s3)
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="public/a b+c.txt", Body=b"open")
    # A lifetime of its own: the heuristic one of an object that is a second old would be 100 ms.
    client.put_object(Bucket=BUCKET, Key="public/stale.txt", Body=b"stale", CacheControl="max-age=0")
    client.put_object(Bucket=BUCKET, Key="closed.txt", Body=b"closed")
    client.put_object(Bucket=BUCKET, Key="public/large", Body=s3.content(3 * s3.MIB, "signing"))
    return store


@pytest.fixture(scope="module")
def edge(module_launch, store):
    return _edge(module_launch, store.s3)


def _visitor(edge):
    return s3.client(edge.http, access_key_id=VISITOR, secret=VISITORS_SECRET)


def test_fills_and_ranges_of_a_public_route_are_signed(edge, store):
    path = f"/{BUCKET}/public/a%20b+c.txt"
    assert curl(f"http://{store.s3}{path}").status == 403
    for hit in [False, True]:
        # What a visitor without a signature says to S3 does not reach it.
        reply = curl(f"http://{edge.http}{path}", "--header", "x-amz-acl: public-read")
        assert (reply.status, reply.body, reply.is_hit) == (200, b"open", hit)
    large = s3.content(3 * s3.MIB, "signing")
    for first, last in [(1_000_000, 1_000_009), (3_000_000, 3_100_000)]:
        reply = curl(f"http://{edge.http}/{BUCKET}/public/large", "--range", f"{first}-{last}")
        assert (reply.status, reply.body) == (206, large[first : last + 1])


def test_validations_are_signed(edge):
    path = f"http://{edge.http}/{BUCKET}/public/stale.txt"
    assert [curl(path).body for _ in range(3)] == [b"stale"] * 3
    # What a client is told may arrive before it is counted.
    assert edge.wait_for_count("tidegate_origin_requests_total", 2, result="3xx") == 2


def test_a_visitor_is_judged_by_the_edge_and_the_edge_by_the_store(edge):
    url = s3.presign(edge.http, BUCKET, "closed.txt", access_key_id=VISITOR, secret=VISITORS_SECRET)
    for hit in [False, True]:
        reply = curl(url)
        assert (reply.status, reply.body, reply.is_hit) == (200, b"closed", hit)
    # The store's key is none of the edge's.
    assert curl(s3.presign(edge.http, BUCKET, "closed.txt")).status == 403
    assert curl(url.split("?")[0]).status == 403
    head = s3.presign(
        edge.http, BUCKET, "none", method="head_object", access_key_id=VISITOR, secret=VISITORS_SECRET
    )
    assert curl(head, "--head").status == 404


def test_visitors_upload_list_and_delete_with_keys_of_the_edge(edge, store):
    client = _visitor(edge)
    key = "uploads/é +%.bin"
    body = s3.content(2 * s3.MIB, "upload")
    client.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"who": "visitor"}, ContentType="a/b")
    stored = s3.client(store.s3).get_object(Bucket=BUCKET, Key=key)
    assert (stored["Body"].read(), stored["Metadata"], stored["ContentType"]) == (body, {"who": "visitor"}, "a/b")
    assert client.get_object(Bucket=BUCKET, Key=key, Range="bytes=5-9")["Body"].read() == body[5:10]
    assert client.list_objects_v2(Bucket=BUCKET, Prefix="uploads/")["KeyCount"] == 1
    client.delete_object(Bucket=BUCKET, Key=key)
    assert client.list_objects_v2(Bucket=BUCKET, Prefix="uploads/")["KeyCount"] == 0

    parameters = {"Bucket": BUCKET, "Key": key, "Metadata": {"who": "me"}, "ChecksumCRC32": "AAAAAA=="}
    url = client.generate_presigned_url("put_object", Params=parameters)
    fields = {"x-amz-meta-who": "me", "x-amz-checksum-crc32": "AAAAAA=="} if "SignedHeaders=host%3B" in url else {}
    assert httpx.put(url, content=b"not nothing", headers=fields).status_code == 400
    assert httpx.put(url, content=b"", headers=fields).status_code == 200
    assert s3.client(store.s3).head_object(Bucket=BUCKET, Key=key)["Metadata"] == {"who": "me"}


def test_nothing_that_changes_something_is_signed_for_strangers(edge, store):
    connection = raw.Connection(edge.http)
    for method in ["PUT", "DELETE", "POST"]:
        assert connection.ask(f"/{BUCKET}/public/a%20b+c.txt", edge.http, method=method).status == 403
    chunks = [("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]
    assert connection.ask(f"/{BUCKET}/x", edge.http, method="PUT", fields=chunks).status == 403
    connection.close()
    assert s3.client(store.s3).get_object(Bucket=BUCKET, Key="public/a b+c.txt")["Body"].read() == b"open"


class Judge:
    """An origin that judges every signature with botocore and answers with its verdict."""

    def __init__(self):
        # (method, target, host, whether the signature is right, the fields that it covers)
        self.seen = []
        handler = type("Handler", (_Judging,), {"judge": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Judging(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    judge = None

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/[0-9]{{8}}/{REGION}/s3/aws4_request, "
            "SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
            self.headers.get("Authorization", ""),
        )
        assert found, self.headers
        names, signature = found[1].split(";"), found[2]
        request = AWSRequest(method=self.command, url=f"http://{self.headers['Host']}{self.path}")
        for name in names:
            if name != "host":
                request.headers[name] = self.headers[name]
        request.context["timestamp"] = self.headers["x-amz-date"]
        auth = S3SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET), "s3", REGION)
        wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        self.judge.seen.append((self.command, self.path, self.headers["Host"], wanted == signature, names))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_DELETE = _answer  # noqa: N815 - the library calls them so

    def log_message(self, *_):
        """Silent: a test says what matters."""


def test_botocore_makes_the_same_signature(launch):
    keys = ["plain", "a b", "a+b%20", "//x//", "ü/é🎬", "~-_.!*'()", "?&=#", "%" * 50]
    host = "private.example:9000"
    with Judge() as judge:
        edge = _edge(launch, judge.address, host=host)
        endpoint = f"http://{edge.http}"
        client = _visitor(edge)
        for key in keys:
            parameters = {"Bucket": BUCKET, "Key": key, "ResponseContentType": "a/b; c=d e"}
            curl(client.generate_presigned_url("get_object", Params=parameters))
            curl(client.generate_presigned_url("head_object", Params={"Bucket": BUCKET, "Key": key}), "--head")
            client.put_object(Bucket=BUCKET, Key=key, Body=b"body", Metadata={"a": "b  c", "d": "e"})
            client.delete_object(Bucket=BUCKET, Key=key)
            curl(f"{endpoint}/{BUCKET}/public/{key.encode().hex()}?x=~%20%2B&a=", "--range", "1-5")
        assert len(judge.seen) == 5 * len(keys)
        for method, target, sent_host, right, names in judge.seen:
            assert right, (method, target, names)
            assert sent_host == host
            assert "X-Amz-" not in target and "visitor" not in target
        puts = [names for method, _, _, _, names in judge.seen if method == "PUT"]
        assert all({"host", "x-amz-content-sha256", "x-amz-date", "x-amz-meta-a"} <= set(names) for names in puts)
