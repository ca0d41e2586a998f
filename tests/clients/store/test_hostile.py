"""Requests that no client sends: each is refused in S3's words, leaves nothing behind, and takes no memory."""

import contextlib
import hashlib
import re
import socket
from pathlib import Path

import pytest

from harness import checksums, s3, sigv4
from harness.s3 import KIB, MIB

BUCKET = "hostile"
BODY = s3.content(100_000, "hostile")
# What the store may take beyond what it had, whatever is sent to it in one test.
ROOM_KIB = 48 * KIB
# Uploads that never end, and what each may take: a buffer of 1 MiB, and the batches on their way into it.
UNFINISHED = 24
UNFINISHED_KIB = 3 * KIB


class Answer:
    """What came back until the other side closed or the answer was whole; status 0 when nothing did."""

    def __init__(self, connection):
        received = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
                received += more
            while len(received) < self._end(received) and (more := connection.recv(65536)):
                received += more
        head, _, self.body = received.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1]) if head else 0
        code = re.search(b"<Code>(.*?)</Code>", self.body)
        self.code = code[1].decode() if code else None

    @staticmethod
    def _end(received):
        head, end, _ = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return len(head) + len(end) + int(length[1]) if length and end else 0

    def __repr__(self):
        return f"{self.status} {self.code} {self.body[:300]!r}"


@pytest.fixture(scope="module")
def node(module_launch):
    """A store of their own, so that nobody else's memory and files are counted."""
    node = module_launch.store(small_pages=True)
    s3.client(node.s3).create_bucket(Bucket=BUCKET)
    return node


@pytest.fixture(autouse=True)
def nothing_is_left(node):
    """After each test: nothing was stored, no file was left, memory is as it was, and the store works."""
    node.reset_memory_peak()
    before = node.memory_kib()
    yield
    assert node.memory_kib() - before < ROOM_KIB
    client = s3.client(node.s3)
    assert "Contents" not in client.list_objects_v2(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="sound", Body=BODY)
    assert client.get_object(Bucket=BUCKET, Key="sound")["Body"].read() == BODY
    client.delete_object(Bucket=BUCKET, Key="sound")
    assert _large_files(node) == []


def _large_files(node):
    """Bytes of uploads too large for a pack, finished or not."""
    return [file for file in Path(node.folder, "origin", "blobs").rglob("*") if file.is_file() and "big" in file.parts]


def _send(node, sent, *, end=False):
    """Sends bytes as they are; `end` says that no more will follow."""
    host, port = node.s3.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        # Whoever is refused early may find the connection closed while it still sends.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return Answer(connection)


def _put(node, *, body=BODY, end=False, **options):
    return _send(node, sigv4.request("PUT", f"/{BUCKET}/a", node.s3, body=body, **options), end=end)


class TestFraming:
    def test_a_body_that_ends_early_is_not_stored(self, node):
        for missing in [1, len(BODY)]:
            length = ("Content-Length", str(len(BODY)))
            answer = _put(node, body=BODY[: len(BODY) - missing], unsigned=[length], end=True)
            assert (answer.status, answer.code) in [(400, "IncompleteBody"), (0, None)], missing

    def test_a_body_of_chunks_that_breaks_its_coding_is_not_stored(self, node):
        coding = [("Transfer-Encoding", "chunked")]
        for body in [
            b"zz\r\nabc\r\n0\r\n\r\n",
            b"5\r\nhel",
            b"5\r\nhelloXX0\r\n\r\n",
            b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
            b"5\r\nhello\r\n0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        ]:
            answer = _put(node, body=body, unsigned=coding, end=True)
            assert answer.status == 0 or (answer.status == 400 and answer.code in (None, "IncompleteBody")), body[:40]

    def test_a_length_that_is_no_length_is_not_http(self, node):
        for fields in [
            [("Content-Length", "5"), ("Content-Length", "6")],
            [("Content-Length", "5, 6")],
            [("Content-Length", "-5")],
            [("Content-Length", "+5")],
            [("Content-Length", "0x5")],
            [("Content-Length", "99999999999999999999")],
            [("Transfer-Encoding", "gzip")],
            [("Transfer-Encoding", "chunked, gzip")],
        ]:
            answer = _put(node, body=b"hello, world", unsigned=fields, end=True)
            assert answer.status in (400, 501), (fields, answer)

    def test_a_length_beyond_the_largest_object_is_refused_before_it_comes(self, node):
        answer = _put(node, body=b"", unsigned=[("Content-Length", str(5 * KIB * MIB + 1))], end=True)
        assert (answer.status, answer.code) == (400, "EntityTooLarge")

    def test_a_head_without_end_is_cut_off(self, node):
        for head in [
            f"GET /{'x' * 100_000} HTTP/1.1\r\nHost: {node.s3}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {node.s3}\r\nx-long: {'y' * 100_000}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {node.s3}\r\n" + "x: y\r\n" * 5_000 + "\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ]:
            answer = _send(node, head.encode("latin-1"), end=True)
            assert answer.status in (0, 400, 403, 414, 431, 505), (head[:60], answer)


# What is wrong with a body in aws-chunked coding: how it is made, and the code that it gets.
LAST = b"0\r\n\r\n"


def _unsigned_trailer(data=BODY, *, said=None, announced="x-amz-checksum-crc32", trailer=None, body=None):
    """The arguments of a PUT whose checksum follows its chunks."""
    if trailer is None:
        trailer = f"x-amz-checksum-crc32:{checksums.text('CRC32', data)}\r\n\r\n".encode()
    if body is None:
        body = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n" + trailer
    fields = [("x-amz-decoded-content-length", str(len(data)) if said is None else said)]
    if announced:
        fields.append(("x-amz-trailer", announced))
    return {"payload": sigv4.UNSIGNED_TRAILER, "fields": fields, "body": body}


RIGHT = checksums.text("CRC32", BODY).encode()
WRONG = checksums.text("CRC32", b"other").encode()
TRAILERS = {
    "wrong checksum": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:" + WRONG + b"\r\n\r\n"), "BadDigest"),
    "no checksum": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:\r\n\r\n"), "MalformedTrailerError"),
    "not base64": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:????????\r\n\r\n"), "MalformedTrailerError"),
    "too short": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:AAAA\r\n\r\n"), "MalformedTrailerError"),
    "none came": (_unsigned_trailer(trailer=b"\r\n"), "MalformedTrailerError"),
    "another came": (_unsigned_trailer(trailer=b"x-amz-checksum-sha1:" + RIGHT + b"\r\n\r\n"), "MalformedTrailerError"),
    "two came": (
        _unsigned_trailer(trailer=(b"x-amz-checksum-crc32:" + RIGHT + b"\r\n") * 2 + b"\r\n"),
        "MalformedTrailerError",
    ),
    "no colon": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32\r\n\r\n"), "MalformedTrailerError"),
    "too long": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:" + b"A" * 9000), "MalformedTrailerError"),
    "a field of the head": (
        _unsigned_trailer(trailer=b"x-amz-checksum-crc32:" + RIGHT + b"\r\nx-amz-acl:public-read\r\n\r\n"),
        "MalformedTrailerError",
    ),
    "unsigned where it is not announced": (_unsigned_trailer(announced=None), "MalformedTrailerError"),
    "announced as nothing we know": (_unsigned_trailer(announced="x-amz-meta-a"), "InvalidRequest"),
    "does not end": (_unsigned_trailer(trailer=b"x-amz-checksum-crc32:" + RIGHT + b"\r\n"), "IncompleteBody"),
    "goes on behind its end": (
        _unsigned_trailer(trailer=b"x-amz-checksum-crc32:" + RIGHT + b"\r\n\r\nmore"),
        "InvalidRequest",
    ),
    "said less": (_unsigned_trailer(said=str(len(BODY) - 1)), "IncompleteBody"),
    "said more": (_unsigned_trailer(said=str(len(BODY) + 1)), "IncompleteBody"),
    "said nothing": (_unsigned_trailer(said=""), "InvalidArgument"),
    "said a word": (_unsigned_trailer(said="many"), "InvalidArgument"),
    "said less than nothing": (_unsigned_trailer(said="-1"), "InvalidArgument"),
    "said too much for a number": (_unsigned_trailer(said="18446744073709551616"), "InvalidArgument"),
    "said too much for an object": (_unsigned_trailer(said=str(5 * KIB * MIB + 1)), "EntityTooLarge"),
    "size is no number": (_unsigned_trailer(body=b"xyz\r\nhello\r\n0\r\n\r\n"), "InvalidRequest"),
    "size is below zero": (_unsigned_trailer(body=b"-5\r\nhello\r\n0\r\n\r\n"), "InvalidRequest"),
    "size is beyond every number": (_unsigned_trailer(body=b"1ffffffffffffffff\r\nhello"), "InvalidRequest"),
    "size is beyond what was said": (_unsigned_trailer(body=b"ffffffffffffffff\r\nhello"), "IncompleteBody"),
    "head of a chunk without end": (_unsigned_trailer(body=b"5;" + b"x" * 100_000), "InvalidRequest"),
    "no end of line": (_unsigned_trailer(body=b"5\r\nhelloXX0\r\n\r\n", said="5"), "InvalidRequest"),
    "not in chunks at all": (_unsigned_trailer(body=BODY), "InvalidRequest"),
    "nothing": (_unsigned_trailer(body=b""), "IncompleteBody"),
}


@pytest.mark.parametrize("name", TRAILERS)
def test_a_body_with_a_trailer_that_breaks_its_promise_is_not_stored(node, name):
    options, code = TRAILERS[name]
    answer = _put(node, **options)
    assert (answer.status, answer.code) == (400, code), answer


class TestSignedChunks:
    def _put(self, node, make, *, length=len(BODY), payload=sigv4.SIGNED_CHUNKS, more=()):
        """`make(signed)` gives the body."""
        fields = [("x-amz-decoded-content-length", str(length)), *more]
        signed = sigv4.sign("PUT", f"/{BUCKET}/a", node.s3, payload=payload, fields=fields)
        body = make(signed)
        head = sigv4.head("PUT", f"/{BUCKET}/a", node.s3, [*signed.fields, ("Content-Length", str(len(body)))])
        return _send(node, head + body)

    def test_what_is_right_is_stored(self, node):
        """So that what follows is refused for what is wrong with it."""
        halves = [BODY[:65_536], BODY[65_536:], b""]
        assert self._put(node, lambda signed: b"".join(map(signed.chunk, halves))).status == 200
        client = s3.client(node.s3)
        assert client.get_object(Bucket=BUCKET, Key="a")["Body"].read() == BODY
        fields = [("x-amz-checksum-crc32", RIGHT.decode())]

        def with_trailer(signed):
            chunks = b"".join(map(signed.chunk, halves))[:-2]
            trailer = f"x-amz-checksum-crc32:{RIGHT.decode()}\r\n"
            return chunks + f"{trailer}x-amz-trailer-signature:{signed.trailer_signature(fields)}\r\n\r\n".encode()

        announced = [("x-amz-trailer", "x-amz-checksum-crc32")]
        put = {"payload": sigv4.SIGNED_CHUNKS_TRAILER, "more": announced}
        assert self._put(node, with_trailer, **put).status == 200
        # The signature covers the trailer: another checksum under it is refused.
        other = self._put(node, lambda signed: with_trailer(signed).replace(RIGHT, WRONG), **put)
        assert (other.status, other.code) in [(403, "SignatureDoesNotMatch"), (400, "BadDigest")]
        unsigned = self._put(
            node, lambda signed: re.sub(b"x-amz-trailer-signature:.*\r\n", b"", with_trailer(signed)), **put
        )
        assert unsigned.status == 400
        client.delete_object(Bucket=BUCKET, Key="a")

    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda s: s.chunk(BODY).replace(BODY, bytes(len(BODY))) + s.chunk(b""), (403, "SignatureDoesNotMatch")),
            (lambda s: re.sub(b"signature=.", b"signature=g", s.chunk(BODY)) + s.chunk(b""), None),
            (lambda s: (c := [s.chunk(BODY[:50_000]), s.chunk(BODY[50_000:])])[1] + c[0] + s.chunk(b""),
             (403, "SignatureDoesNotMatch")),
            (lambda s: (c := s.chunk(BODY[:50_000])) + c + s.chunk(b""), (403, "SignatureDoesNotMatch")),
            (lambda s: s.chunk(BODY) + b"0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n", (403, "SignatureDoesNotMatch")),
            (lambda s: s.chunk(BODY), (400, "IncompleteBody")),
            (lambda s: s.chunk(BODY) + LAST, (400, "InvalidRequest")),
            (lambda s: f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n" + LAST, (400, "InvalidRequest")),
            (lambda s: s.chunk(BODY[:-1]) + s.chunk(b""), (400, "IncompleteBody")),
            (lambda s: s.chunk(BODY + b"x") + s.chunk(b""), (400, "IncompleteBody")),
            (lambda s: s.chunk(BODY) + s.chunk(b"") + b"x", (400, "InvalidRequest")),
        ],
        ids=["other bytes", "no signature", "swapped", "repeated", "last unsigned", "no last", "bare last",
             "bare chunks", "short", "long", "more behind"],
    )  # fmt: skip
    def test_chunks_that_were_not_signed_so_are_not_stored(self, node, make, expected):
        answer = self._put(node, make)
        assert answer.status in (400, 403), answer
        assert expected in (None, (answer.status, answer.code)), answer

    def test_a_replayed_chunk_belongs_to_its_request(self, node):
        recorded = []
        self._put(node, lambda signed: recorded.append(signed.chunk(BODY) + signed.chunk(b"")) or b"")
        # The same bytes under another request have another signature before them.
        answer = self._put(node, lambda signed: recorded[0], more=[("x-amz-meta-other", "1")])
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


class TestPromises:
    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ([("Content-MD5", checksums.md5(b"other"))], "BadDigest"),
            ([("Content-MD5", "AAAA")], "InvalidDigest"),
            ([("Content-MD5", "")], "InvalidDigest"),
            *[([(f"x-amz-checksum-{a.lower()}", checksums.text(a, b"other"))], "BadDigest") for a in checksums.ALGORITHMS],
            ([("x-amz-checksum-crc32", RIGHT.decode()), ("x-amz-checksum-sha1", checksums.text("SHA1", BODY))],
             "InvalidRequest"),
            ([("x-amz-sdk-checksum-algorithm", "SHA1"), ("x-amz-checksum-crc32", RIGHT.decode())], "InvalidRequest"),
            ([("x-amz-trailer", "x-amz-checksum-crc32")], "InvalidRequest"),
        ],
    )  # fmt: skip
    def test_a_broken_promise_about_the_bytes_is_refused(self, node, fields, code):
        answer = _put(node, fields=fields)
        assert (answer.status, answer.code) == (400, code), answer

    def test_a_hash_of_other_bytes_is_refused(self, node):
        answer = _put(node, payload=hashlib.sha256(b"other").hexdigest())
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
        for payload in ["", "short", "g" * 64, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "UNSIGNED"]:
            answer = _put(node, payload=payload)
            assert answer.status in (400, 403, 501) and answer.code, payload

    def test_what_would_have_been_encrypted_is_not_stored_in_the_clear(self, node):
        for name, value in [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-object-lock-event-hold", "ON"),
            ("x-amz-made-up", "1"),
        ]:
            answer = _put(node, fields=[(name, value)])
            assert answer.status in (400, 501) and answer.code in ("NotImplemented", "InvalidArgument", "InvalidRequest")


# Every operation that takes a document: method, target, and the root of the document.
DOCUMENTS = {
    "CreateBucket": ("PUT", "/hostile-new", "CreateBucketConfiguration"),
    "DeleteObjects": ("POST", f"/{BUCKET}?delete", "Delete"),
    "PutBucketAcl": ("PUT", f"/{BUCKET}?acl", "AccessControlPolicy"),
    "PutBucketCors": ("PUT", f"/{BUCKET}?cors", "CORSConfiguration"),
    "PutBucketLifecycleConfiguration": ("PUT", f"/{BUCKET}?lifecycle", "LifecycleConfiguration"),
    "PutBucketOwnershipControls": ("PUT", f"/{BUCKET}?ownershipControls", "OwnershipControls"),
    "PutBucketTagging": ("PUT", f"/{BUCKET}?tagging", "Tagging"),
    "PutBucketVersioning": ("PUT", f"/{BUCKET}?versioning", "VersioningConfiguration"),
    "PutPublicAccessBlock": ("PUT", f"/{BUCKET}?publicAccessBlock", "PublicAccessBlockConfiguration"),
    "PutObjectLockConfiguration": ("PUT", f"/{BUCKET}?object-lock", "ObjectLockConfiguration"),
    "CompleteMultipartUpload": ("POST", f"/{BUCKET}/a?uploadId={{upload}}", "CompleteMultipartUpload"),
    "PutObjectAcl": ("PUT", f"/{BUCKET}/none?acl", "AccessControlPolicy"),
    "PutObjectLegalHold": ("PUT", f"/{BUCKET}/none?legal-hold", "LegalHold"),
    "PutObjectRetention": ("PUT", f"/{BUCKET}/none?retention", "Retention"),
    "PutObjectTagging": ("PUT", f"/{BUCKET}/none?tagging", "Tagging"),
}
LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10)
)


def _bombs(root):
    """Documents that hurt parsers."""
    yield "not XML", b"hello"
    yield "not closed", f"<{root}>".encode()
    yield "closed twice", f"<{root}/></{root}>".encode()
    yield "two roots", f"<{root}/><{root}/>".encode()
    yield "another root", b"<Other/>"
    yield "a billion laughs", f"{LAUGHS}]><{root}>&a9;</{root}>".encode()
    yield "a file", f"<!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><{root}>&f;</{root}>".encode()
    yield "a type", f"<!DOCTYPE {root}><{root}/>".encode()
    yield "deep", b"<a>" * 200_000
    yield "deep under its root", f"<{root}>".encode() + b"<a>" * 100_000 + b"</a>" * 100_000 + f"</{root}>".encode()
    yield "wide", f"<{root}>".encode() + b"<a/>" * 200_000 + f"</{root}>".encode()
    yield "many attributes", f"<{root} ".encode() + b"".join(b'a%d="" ' % n for n in range(50_000)) + b"/>"
    yield "a long name", b"<" + b"x" * 900_000 + b"/>"
    yield "too long", f"<{root}>{' ' * (8 * MIB)}</{root}>".encode()
    yield "zeros", f"<{root}>\0\0</{root}>".encode()
    yield "not UTF-8", f"<{root}>".encode() + b"\xff\xfe\xfd" + f"</{root}>".encode()
    yield "UTF-16", f"<?xml version='1.0' encoding='UTF-16'?><{root}/>".encode("utf-16")


@pytest.mark.parametrize("operation", DOCUMENTS)
def test_a_document_that_hurts_parsers_is_refused(node, operation):
    method, target, root = DOCUMENTS[operation]
    client = s3.client(node.s3)
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="a")["UploadId"]
    target = target.format(upload=upload)
    for name, document in _bombs(root):
        fields = [("Content-MD5", checksums.md5(document))]
        answer = _send(node, sigv4.request(method, target, node.s3, fields=fields, body=document))
        # A document that was refused for its length may still be on its way when the connection closes.
        if name == "too long" and answer.status == 0:
            continue
        assert 400 <= answer.status < 500 and answer.code, (name, answer)
    client.abort_multipart_upload(Bucket=BUCKET, Key="a", UploadId=upload)
    assert s3.refusal(client.head_bucket, Bucket="hostile-new") == (404, "404")
    assert "Status" not in client.get_bucket_versioning(Bucket=BUCKET)
    assert s3.refusal(client.get_bucket_tagging, Bucket=BUCKET) == (404, "NoSuchTagSet")
    assert len(client.get_bucket_acl(Bucket=BUCKET)["Grants"]) == 1


def test_a_policy_that_hurts_parsers_is_refused(node):
    statement = '{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::hostile/*"}'
    for name, document in {
        "deep lists": "[" * 19_000,
        "deep objects": '{"a":' * 3_000,
        "long": f'{{"Version":"2012-10-17","Id":"{"x" * 30_000}","Statement":[{statement}]}}',
        "very long": " " * (8 * MIB),
        "twice": f'{{"Version":"2012-10-17","Statement":[{statement}],"Statement":[]}}',
        "numbers": '{"Version":1e999999,"Statement":[]}',
        "not Unicode": '{"Version":"2012-10-17","Statement":[{"Sid":"\\ud800"}]}',
        "empty": "",
    }.items():
        answer = _send(node, sigv4.request("PUT", f"/{BUCKET}?policy", node.s3, body=document.encode()))
        if name == "very long" and answer.status == 0:
            continue
        assert 400 <= answer.status < 500 and answer.code, (name, answer)
    assert s3.refusal(s3.client(node.s3).get_bucket_policy, Bucket=BUCKET) == (404, "NoSuchBucketPolicy")


def test_a_query_that_says_two_things_is_refused(node):
    for target in [
        f"/{BUCKET}?list-type=2&list-type=2",
        f"/{BUCKET}?list-type=2&max-keys=1&max-keys=2",
        f"/{BUCKET}/a?uploads&uploadId=1",
        f"/{BUCKET}?list-type=2&prefix=%ff%fe",
        f"/{BUCKET}?list-type=2&prefix=%zz",
        f"/{BUCKET}?list-type=3",
    ]:
        answer = _send(node, sigv4.request("GET", target, node.s3))
        assert answer.status in (400, 403, 405, 501) and answer.code, (target, answer)


def test_many_unfinished_uploads_take_little_memory(launch):
    """Each holds what the store gathers before it writes; none is stored when its client goes away."""
    node = launch.store(small_pages=True)
    s3.client(node.s3).create_bucket(Bucket=BUCKET)
    before = node.memory_kib("VmRSS")
    host, port = node.s3.split(":")
    length = [("Content-Length", str(16 * MIB))]
    piece = s3.content(MIB, "unfinished")
    with contextlib.ExitStack() as connections:
        opened = []
        for number in range(UNFINISHED):
            connection = connections.enter_context(socket.create_connection((host, int(port)), timeout=20))
            connection.sendall(sigv4.request("PUT", f"/{BUCKET}/{number}", node.s3, unsigned=length))
            opened.append(connection)
        for _ in range(3):
            for connection in opened:
                connection.sendall(piece)
    # To stop is to wait for every connection, so all of them have been noticed by then.
    memory = node.memory_kib()
    assert node.stop() == 0
    assert memory - before < UNFINISHED * UNFINISHED_KIB, memory
    assert _large_files(node) == []
