"""Objects in parts, by boto3: uploads, copies into parts, listings, and reads of one part."""

import pytest

from harness import checksums, s3
from harness.s3 import KIB, MIB

LEAST = 5 * MIB


class Upload:
    """One upload, and the parts that it has."""

    def __init__(self, client, bucket, key="a", **options):
        self.client, self.target = client, {"Bucket": bucket, "Key": key}
        self.begun = client.create_multipart_upload(**self.target, **options)
        self.target["UploadId"] = self.begun["UploadId"]
        self.parts = {}

    def put(self, number, body, **options):
        answer = self.client.upload_part(PartNumber=number, Body=body, **self.target, **options)
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return answer

    def copy(self, number, source, **options):
        answer = self.client.upload_part_copy(PartNumber=number, CopySource=source, **self.target, **options)
        self.parts[number] = {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}
        return answer

    def list(self):
        return [self.parts[number] for number in sorted(self.parts)]

    def complete(self, parts=None, **options):
        document = {"Parts": self.list() if parts is None else parts}
        return self.client.complete_multipart_upload(MultipartUpload=document, **self.target, **options)

    def refusal(self, parts, **options):
        return s3.refusal(self.complete, parts, **options)


@pytest.fixture(scope="module")
def bodies():
    return {number: s3.content(size, f"part {number}") for number, size in [(1, LEAST), (2, LEAST + 7), (3, 70 * KIB)]}


def test_parts_in_any_order_become_one_object(either, bucket, bodies):
    upload = Upload(either, bucket, ContentType="video/mp4", Metadata={"a": "b"}, Tagging="t=1", CacheControl="no-cache")
    assert (upload.begun["Bucket"], upload.begun["Key"]) == (bucket, "a")
    upload.put(3, bodies[3])
    upload.put(2, b"not the last word on part 2")
    for number in [1, 2]:
        assert upload.put(number, bodies[number])["ETag"] == checksums.etag(bodies[number])
    # Nothing is there before the end.
    assert s3.refusal(either.head_object, Bucket=bucket, Key="a") == (404, "404")
    done = upload.complete()
    whole = b"".join(bodies.values())
    etag = checksums.multipart_etag(list(bodies.values()))
    assert (done["ETag"], done["Bucket"], done["Key"]) == (etag, bucket, "a")
    assert done["Location"].endswith(f"/{bucket}/a")
    got = either.get_object(Bucket=bucket, Key="a")
    assert got["Body"].read() == whole
    assert (got["ETag"], got["ContentType"], got["Metadata"], got["TagCount"]) == (etag, "video/mp4", {"a": "b"}, 1)
    assert got["CacheControl"] == "no-cache"
    for start, end in [(0, 1), (LEAST - 1, LEAST + 1), (LEAST + 65_535, 2 * LEAST + 20), (len(whole) - 1, len(whole))]:
        part = either.get_object(Bucket=bucket, Key="a", Range=f"bytes={start}-{end - 1}")
        assert part["Body"].read() == whole[start:end]
    assert "Uploads" not in either.list_multipart_uploads(Bucket=bucket)


def test_one_part_can_be_read(client, bucket, bodies):
    upload = Upload(client, bucket)
    for number, body in bodies.items():
        upload.put(10 * number, body)
    upload.complete()
    start = 0
    total = sum(map(len, bodies.values()))
    # The parts of an object are numbered anew.
    for number, body in bodies.items():
        answer = client.get_object(Bucket=bucket, Key="a", PartNumber=number)
        assert answer["Body"].read() == body
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["ContentRange"] == f"bytes {start}-{start + len(body) - 1}/{total}"
        assert answer["PartsCount"] == 3
        head = client.head_object(Bucket=bucket, Key="a", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
        start += len(body)
    assert s3.refusal(client.get_object, Bucket=bucket, Key="a", PartNumber=4)[0] == 416
    assert s3.refusal(client.get_object, Bucket=bucket, Key="a", PartNumber=0) == (400, "InvalidArgument")
    both = s3.refusal(client.get_object, Bucket=bucket, Key="a", PartNumber=1, Range="bytes=0-1")
    assert both == (400, "InvalidRequest")
    client.put_object(Bucket=bucket, Key="single", Body=b"one piece")
    answer = client.get_object(Bucket=bucket, Key="single", PartNumber=1)
    assert answer["Body"].read() == b"one piece"
    assert s3.refusal(client.get_object, Bucket=bucket, Key="single", PartNumber=2)[0] == 416


def test_parts_are_copied_from_objects(either, bucket, new_bucket, bodies):
    source = new_bucket()
    either.put_object(Bucket=source, Key="ü +", Body=bodies[2])
    upload = Upload(either, bucket)
    upload.copy(1, {"Bucket": source, "Key": "ü +"})
    upload.copy(2, {"Bucket": source, "Key": "ü +"}, CopySourceRange=f"bytes=7-{LEAST + 6}")
    copied = upload.copy(3, {"Bucket": source, "Key": "ü +"}, CopySourceRange="bytes=65530-65540")
    tail = bodies[2][65_530:65_541]
    assert copied["CopyPartResult"]["ETag"] == checksums.etag(tail)
    upload.complete()
    pieces = [bodies[2], bodies[2][7 : LEAST + 7], tail]
    got = either.get_object(Bucket=bucket, Key="a")
    assert got["Body"].read() == b"".join(pieces)
    assert got["ETag"] == checksums.multipart_etag(pieces)
    # An object made of parts is a source too, across their border.
    again = Upload(either, bucket, "again")
    again.copy(1, {"Bucket": bucket, "Key": "a"}, CopySourceRange=f"bytes=100-{2 * LEAST}")
    again.complete()
    assert either.get_object(Bucket=bucket, Key="again")["Body"].read() == b"".join(pieces)[100 : 2 * LEAST + 1]


def test_a_copy_into_a_part_that_cannot_be_is_refused(client, bucket):
    etag = client.put_object(Bucket=bucket, Key="source", Body=b"0123456789")["ETag"]
    upload = Upload(client, bucket)
    source = {"Bucket": bucket, "Key": "source"}
    for options, expected in [
        ({"CopySourceRange": "bytes=5-10"}, (416, "InvalidRange")),
        ({"CopySourceRange": "bytes=5-"}, (400, "InvalidArgument")),
        ({"CopySourceRange": "5-6"}, (400, "InvalidArgument")),
        ({"CopySourceIfMatch": '"other"'}, (412, "PreconditionFailed")),
        ({"CopySourceIfNoneMatch": etag}, (412, "PreconditionFailed")),
    ]:
        refused = s3.refusal(upload.copy, 1, source, **options)
        # AWS has both for a range that goes beyond the end.
        assert refused == expected or (expected[0] == 416 and refused == (400, "InvalidArgument")), options
    assert s3.refusal(upload.copy, 1, {"Bucket": bucket, "Key": "none"}) == (404, "NoSuchKey")


def test_a_completion_that_does_not_fit_is_refused_and_can_be_mended(client, bucket, bodies):
    upload = Upload(client, bucket)
    assert upload.refusal([]) == (400, "MalformedXML")
    upload.put(1, b"too small to be first")
    upload.put(2, bodies[3])
    small, second = upload.list()
    assert upload.refusal([small, second]) == (400, "EntityTooSmall")
    assert upload.refusal([second, small]) == (400, "InvalidPartOrder")
    assert upload.refusal([small, small]) == (400, "InvalidPartOrder")
    assert upload.refusal([{"PartNumber": 3, "ETag": second["ETag"]}]) == (400, "InvalidPart")
    assert upload.refusal([{"PartNumber": 2, "ETag": '"0123456789abcdef0123456789abcdef"'}]) == (400, "InvalidPart")
    # The last part may be small, parts may be left out, and tags go without quotes too.
    done = upload.complete([{"PartNumber": 2, "ETag": second["ETag"].strip('"')}])
    assert done["ETag"] == checksums.multipart_etag([bodies[3]])
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == bodies[3]


def test_a_completion_that_is_repeated_is_answered_again(client, versioned, bodies):
    upload = Upload(client, versioned, ChecksumAlgorithm="CRC32C")
    for number in [1, 3]:
        upload.put(number, bodies[number], ChecksumAlgorithm="CRC32C")
    told = ["ETag", "VersionId", "Location", "ChecksumCRC32C", "ChecksumType"]
    done = upload.complete()
    again = upload.complete()
    assert [again[name] for name in told] == [done[name] for name in told]
    assert len(client.list_object_versions(Bucket=versioned)["Versions"]) == 1
    # Only of these very parts, and as long as it is the newest object there.
    other = [upload.list()[0]]
    assert upload.refusal(other) == (404, "NoSuchUpload")
    assert upload.refusal(upload.list(), IfNoneMatch="*")[0] in (404, 412)
    client.put_object(Bucket=versioned, Key="a", Body=b"newer")
    assert upload.refusal(upload.list()) == (404, "NoSuchUpload")
    assert client.get_object(Bucket=versioned, Key="a")["Body"].read() == b"newer"


def test_an_upload_that_was_aborted_is_gone(client, bucket):
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    client.abort_multipart_upload(**upload.target)
    gone = (404, "NoSuchUpload")
    assert s3.refusal(client.abort_multipart_upload, **upload.target) == gone
    assert s3.refusal(upload.put, 1, b"x") == gone
    assert s3.refusal(client.list_parts, **upload.target) == gone
    assert upload.refusal(None) == gone
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    made_up = upload.target | {"UploadId": "made up"}
    assert s3.refusal(client.list_parts, **made_up) == gone
    # An upload belongs to its key.
    other = Upload(client, bucket)
    assert s3.refusal(client.list_parts, **(other.target | {"Key": "b"})) == gone


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_a_part_has_a_number_from_1_to_10000(client, bucket, number):
    upload = Upload(client, bucket)
    assert s3.refusal(upload.put, number, b"x") == (400, "InvalidArgument")
    upload.put(10_000, b"x")
    upload.complete()


def test_parts_are_listed_with_every_size_of_a_page(client, bucket):
    upload = Upload(client, bucket, "ü/a b")
    numbers = [1, 2, 3, 7, 1000, 9999, 10_000]
    for number in numbers:
        upload.put(number, b"x" * (number % 10))
    for size in range(1, len(numbers) + 2):
        found, marker = [], 0
        while True:
            page = client.list_parts(MaxParts=size, PartNumberMarker=marker, **upload.target)
            assert len(page["Parts"]) <= size == page["MaxParts"]
            found += page["Parts"]
            if not page["IsTruncated"]:
                break
            marker = page["NextPartNumberMarker"]
        assert [(part["PartNumber"], part["Size"]) for part in found] == [(n, n % 10) for n in numbers]
        assert [part["ETag"] for part in found] == [part["ETag"] for part in upload.list()]
    assert (page["Bucket"], page["Key"], page["UploadId"]) == tuple(upload.target.values())
    assert page["Owner"]["ID"] == page["Initiator"]["ID"]


def test_a_bucket_with_an_upload_alone_can_be_deleted_and_the_upload_is_gone(client, bucket):
    upload = Upload(client, bucket)
    upload.put(1, b"x" * 70_000)
    client.delete_bucket(Bucket=bucket)
    client.create_bucket(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert s3.refusal(client.list_parts, **upload.target) == (404, "NoSuchUpload")


class TestChecksums:
    @pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
    def test_a_checksum_of_one_piece_is_compared_stored_and_told(self, client, bucket, algorithm):
        body = s3.content(70 * KIB, algorithm)
        right = checksums.text(algorithm, body)
        name = f"Checksum{algorithm}"
        for how in [{name: right}, {"ChecksumAlgorithm": algorithm}]:
            put = client.put_object(Bucket=bucket, Key="a", Body=body, **how)
            assert (put[name], put["ChecksumType"]) == (right, "FULL_OBJECT")
            for read in [client.get_object, client.head_object]:
                assert read(Bucket=bucket, Key="a", ChecksumMode="ENABLED")[name] == right
        wrong = {name: checksums.text(algorithm, b"other")}
        refused = s3.refusal(client.put_object, Bucket=bucket, Key="a", Body=body, **wrong)
        assert refused == (400, "BadDigest")
        invalid = s3.refusal(client.put_object, Bucket=bucket, Key="a", Body=body, **{name: "AAAA"})
        # AWS says which field it was, in one code or the other.
        assert invalid in [(400, "InvalidRequest"), (400, "InvalidDigest")]
        (listed,) = client.list_objects_v2(Bucket=bucket)["Contents"]
        assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ([algorithm], "FULL_OBJECT")
        # A part of the bytes has no checksum that the store knows.
        part = client.get_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED", Range="bytes=0-9")
        assert part["Body"].read() == body[:10]

    @pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
    def test_a_copy_may_have_another_checksum(self, client, bucket, algorithm):
        client.put_object(Bucket=bucket, Key="a", Body=b"0123456789", ChecksumAlgorithm="CRC32")
        source = {"Bucket": bucket, "Key": "a"}
        copied = client.copy_object(Bucket=bucket, Key="b", CopySource=source, ChecksumAlgorithm=algorithm)
        right = checksums.text(algorithm, b"0123456789")
        assert copied["CopyObjectResult"][f"Checksum{algorithm}"] == right
        head = client.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == right

    @pytest.mark.parametrize(
        ("algorithm", "kind"),
        [(name, "FULL_OBJECT") for name in checksums.FULL_OBJECT] + [(name, "COMPOSITE") for name in checksums.COMPOSITE],
    )
    def test_the_checksum_of_parts_is_combined(self, client, bucket, bodies, algorithm, kind):
        pieces = [bodies[1], bodies[3]]
        whole = b"".join(pieces)
        right = checksums.text(algorithm, whole) if kind == "FULL_OBJECT" else checksums.composite(algorithm, pieces)
        name = f"Checksum{algorithm}"
        upload = Upload(client, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        assert (upload.begun["ChecksumAlgorithm"], upload.begun["ChecksumType"]) == (algorithm, kind)
        wrong = s3.refusal(upload.put, 1, pieces[0], **{name: checksums.text(algorithm, b"other")})
        assert wrong == (400, "BadDigest")
        for number, piece in enumerate(pieces, 1):
            told = upload.put(number, piece, ChecksumAlgorithm=algorithm)[name]
            assert told == checksums.text(algorithm, piece)
            upload.parts[number][name] = told
        listed = client.list_parts(**upload.target)
        assert [part[name] for part in listed["Parts"]] == [part[name] for part in upload.list()]
        assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, kind)
        swapped = [dict(part) for part in upload.list()]
        swapped[0][name], swapped[1][name] = swapped[1][name], swapped[0][name]
        assert upload.refusal(swapped)[0] == 400
        if kind == "FULL_OBJECT":
            refused = upload.refusal(None, **{name: checksums.text(algorithm, b"other"), "ChecksumType": kind})
            assert refused == (400, "BadDigest")
            done = upload.complete(ChecksumType=kind, **{name: right})
        else:
            done = upload.complete()
        assert (done[name], done["ChecksumType"]) == (right, kind)
        head = client.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
        assert (head[name], head["ChecksumType"]) == (right, kind)
        got = client.get_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
        assert got["Body"].read() == whole

    def test_a_part_is_read_with_its_own_checksum(self, client, bucket, bodies):
        upload = Upload(client, bucket, ChecksumAlgorithm="SHA256")
        for number in [1, 3]:
            upload.put(number, bodies[number], ChecksumAlgorithm="SHA256")
            upload.parts[number]["ChecksumSHA256"] = checksums.text("SHA256", bodies[number])
        upload.complete()
        for place, number in [(1, 1), (2, 3)]:
            options = {"Bucket": bucket, "Key": "a", "PartNumber": place, "ChecksumMode": "ENABLED"}
            for got in [client.get_object(**options), client.head_object(**options)]:
                assert got["ChecksumSHA256"] == checksums.text("SHA256", bodies[number])
                assert got["ChecksumType"] == "COMPOSITE"

    @pytest.mark.parametrize(
        ("algorithm", "kind"), [("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT")]
    )
    def test_a_kind_that_an_algorithm_does_not_have_is_refused(self, client, bucket, algorithm, kind):
        call = {"Bucket": bucket, "Key": "a", "ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        assert s3.refusal(client.create_multipart_upload, **call) == (400, "InvalidRequest")

    def test_a_part_with_another_algorithm_is_refused(self, client, bucket):
        upload = Upload(client, bucket, ChecksumAlgorithm="SHA256")
        refused = s3.refusal(upload.put, 1, b"x", ChecksumSHA1=checksums.text("SHA1", b"x"))
        assert refused == (400, "InvalidRequest")

    def test_a_size_that_the_parts_do_not_have_is_refused(self, client, bucket):
        upload = Upload(client, bucket)
        upload.put(1, b"0123456789")
        assert upload.refusal(None, MpuObjectSize=11) == (400, "InvalidRequest")
        upload.complete(MpuObjectSize=10)

    def test_attributes_tell_of_every_part_with_every_size_of_a_page(self, client, bucket, bodies):
        upload = Upload(client, bucket, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
        for number, body in bodies.items():
            told = upload.put(number, body, ChecksumAlgorithm="SHA256")
            upload.parts[number]["ChecksumSHA256"] = told["ChecksumSHA256"]
        upload.complete()
        asked = {"Bucket": bucket, "Key": "a", "ObjectAttributes": ["ObjectParts", "Checksum", "ETag"]}
        wanted = [(n, len(body), checksums.text("SHA256", body)) for n, body in bodies.items()]
        for size in [1, 2, 3, 4]:
            found, marker = [], 0
            while True:
                answer = client.get_object_attributes(MaxParts=size, PartNumberMarker=marker, **asked)
                parts = answer["ObjectParts"]
                assert parts["TotalPartsCount"] == 3
                found += [(p["PartNumber"], p["Size"], p["ChecksumSHA256"]) for p in parts["Parts"]]
                if not parts["IsTruncated"]:
                    break
                marker = parts["NextPartNumberMarker"]
            assert found == wanted
        whole = checksums.composite("SHA256", list(bodies.values()))
        # Here the number of parts is a field of its own.
        assert answer["Checksum"]["ChecksumSHA256"] in (whole, whole.split("-")[0])
        assert answer["ETag"] == checksums.multipart_etag(list(bodies.values())).strip('"')
