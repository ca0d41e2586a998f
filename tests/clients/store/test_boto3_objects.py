"""Objects, by boto3: put, read, deleted, copied, appended to, and what stands beside their bytes."""

import io
from datetime import UTC, datetime

import pytest
from boto3.s3.transfer import TransferConfig

from harness import checksums, s3
from harness.s3 import KIB, MIB

# Both sides of where the store changes how it keeps bytes, and of its blocks.
SIZES = [0, 1, 4 * KIB, 4 * KIB + 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7]
STORED_FIELDS = {
    "CacheControl": "max-age=60, public",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
    "ContentType": "text/plain; charset=utf-8",
    "Expires": datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
    "Metadata": {"made-by": "suite", "with-spaces": "a  b", "empty": ""},
}
HOSTILE_KEYS = [
    "a b",
    "a+b",
    "%41%2F%zz",
    "films//double",
    "/leading",
    "trailing/",
    "./dots/../up",
    "..",
    "question?mark=1&versionId=2",
    "hash#fragment",
    "quotes\"'`",
    "<Key>&amp;</Key>",
    "back\\slash|pipe^caret{brace}[bracket]~tilde",
    "semi;colon:comma,at@dollar$equals=star*paren()!",
    "ümläut/日本語/🎬",
    "e\u0301 decomposed",
    "tab\tnewline\nreturn\r",
    "x" * 1024,
    "ü" * 512,
]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_as_they_went(either, bucket, size):
    body = s3.content(size, "objects")
    put = either.put_object(Bucket=bucket, Key="films/a.mp4", Body=body)
    assert put["ETag"] == checksums.etag(body)
    got = either.get_object(Bucket=bucket, Key="films/a.mp4")
    assert got["Body"].read() == body
    assert (got["ContentLength"], got["ETag"], got["AcceptRanges"]) == (size, put["ETag"], "bytes")
    head = either.head_object(Bucket=bucket, Key="films/a.mp4")
    assert (head["ContentLength"], head["ETag"], head["LastModified"]) == (size, put["ETag"], got["LastModified"])
    either.delete_object(Bucket=bucket, Key="films/a.mp4")
    assert s3.refusal(either.get_object, Bucket=bucket, Key="films/a.mp4") == (404, "NoSuchKey")
    assert s3.refusal(either.head_object, Bucket=bucket, Key="films/a.mp4") == (404, "404")
    # To delete what is not there is no error.
    either.delete_object(Bucket=bucket, Key="films/a.mp4")


def test_the_newest_bytes_win_and_the_old_ones_are_gone(either, bucket):
    for size in [3 * MIB, 10, 70 * KIB, 0, 2 * MIB]:
        body = s3.content(size, "overwritten")
        either.put_object(Bucket=bucket, Key="a", Body=body)
        assert either.get_object(Bucket=bucket, Key="a")["Body"].read() == body
    assert [found["Size"] for found in either.list_objects_v2(Bucket=bucket)["Contents"]] == [2 * MIB]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_every_key_can_be_used_by_every_operation(client, bucket, key):
    body = key.encode()
    client.put_object(Bucket=bucket, Key=key, Body=body, Tagging="k=v")
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(body)
    assert client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == [{"Key": "k", "Value": "v"}]
    for listing in [client.list_objects, client.list_objects_v2]:
        assert [found["Key"] for found in listing(Bucket=bucket)["Contents"]] == [key]
        assert [found["Key"] for found in listing(Bucket=bucket, Prefix=key)["Contents"]] == [key]
    assert [found["Key"] for found in client.list_object_versions(Bucket=bucket)["Versions"]] == [key]
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == body
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)
    assert upload["Key"] == key
    assert [found["Key"] for found in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [key]
    client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
    client.delete_object(Bucket=bucket, Key=key)
    assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["copy"]


def test_a_key_that_xml_has_no_form_for_is_listed_with_its_encoding(client, bucket):
    """boto3 asks for `encoding-type=url` by itself; other documents cannot be read by anybody."""
    key = "\x01\x1f\x7f controls"
    client.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
    for listing, what in [(client.list_objects_v2, "Contents"), (client.list_object_versions, "Versions")]:
        assert [found["Key"] for found in listing(Bucket=bucket)[what]] == [key]
    client.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("key", ["x" * 1025, "ü" * 513])
def test_a_key_that_is_too_long_is_refused(client, bucket, key):
    assert s3.refusal(client.put_object, Bucket=bucket, Key=key, Body=b"") == (400, "KeyTooLongError")


def test_fields_are_stored_and_come_back(either, bucket):
    either.put_object(Bucket=bucket, Key="a", Body=b"x", **STORED_FIELDS)
    for read in [either.get_object, either.head_object]:
        answer = read(Bucket=bucket, Key="a")
        assert {name: answer[name] for name in STORED_FIELDS} == STORED_FIELDS
    plain = either.put_object(Bucket=bucket, Key="plain", Body=b"x")
    assert "VersionId" not in plain
    assert either.head_object(Bucket=bucket, Key="plain")["ContentType"] == "binary/octet-stream"
    assert either.head_object(Bucket=bucket, Key="plain")["Metadata"] == {}


def test_metadata_has_at_most_2_kib(client, bucket):
    client.put_object(Bucket=bucket, Key="fits", Body=b"", Metadata={"k": "v" * 2047})
    assert client.head_object(Bucket=bucket, Key="fits")["Metadata"] == {"k": "v" * 2047}
    refused = s3.refusal(client.put_object, Bucket=bucket, Key="big", Body=b"", Metadata={"k": "v" * 2048})
    assert refused == (400, "MetadataTooLarge")


def test_a_reader_may_ask_for_other_fields(client, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"x", **STORED_FIELDS)
    wanted = {
        "CacheControl": "no-store",
        "ContentDisposition": "inline",
        "ContentEncoding": "identity",
        "ContentLanguage": "fr",
        "ContentType": "video/mp4",
        "Expires": datetime(2032, 1, 1, tzinfo=UTC),
    }
    answer = client.get_object(Bucket=bucket, Key="a", **{f"Response{name}": wanted[name] for name in wanted})
    assert {name: answer[name] for name in wanted} == wanted
    assert answer["Metadata"] == STORED_FIELDS["Metadata"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 200_000),
        ("bytes=65535-65536", 65_535, 65_537),
        ("bytes=199999-", 199_999, 200_000),
        ("bytes=1000-900000", 1_000, 200_000),
        ("bytes=-1", 199_999, 200_000),
        ("bytes=-900000", 0, 200_000),
    ],
)
def test_a_range_is_exact(either, bucket, asked, start, end):
    body = s3.content(200_000, "ranges")
    either.put_object(Bucket=bucket, Key="a", Body=body)
    part = either.get_object(Bucket=bucket, Key="a", Range=asked)
    assert part["Body"].read() == body[start:end]
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert part["ContentRange"] == f"bytes {start}-{end - 1}/200000"
    head = either.head_object(Bucket=bucket, Key="a", Range=asked)
    assert (head["ContentLength"], head["ContentRange"]) == (end - start, part["ContentRange"])


def test_a_range_that_cannot_be_is_refused_or_passed_over(client, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"0123456789")
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    for key, behind in [("a", "bytes=10-"), ("a", "bytes=10-20"), ("a", "bytes=-0"), ("empty", "bytes=0-0")]:
        assert s3.refusal(client.get_object, Bucket=bucket, Key=key, Range=behind) == (416, "InvalidRange")
    for odd in ["bytes=0-1,4-5", "bytes=5-2", "bytes=a-b", "chapters=1-2", "bytes"]:
        whole = client.get_object(Bucket=bucket, Key="a", Range=odd)
        assert (whole["Body"].read(), whole["ResponseMetadata"]["HTTPStatusCode"]) == (b"0123456789", 200), odd


def test_many_are_deleted_at_once(client, bucket):
    keys = [f"n/{number:04}" for number in range(5)] + HOSTILE_KEYS[:16]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    listed = [{"Key": key} for key in [*keys[1:], "never was"]]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": listed})
    assert sorted(found["Key"] for found in answer["Deleted"]) == sorted(entry["Key"] for entry in listed)
    assert "Errors" not in answer
    # Nothing is retained, so there is nothing to bypass: suites of tests say it whenever they tidy up.
    last = {"Objects": [{"Key": keys[0]}], "Quiet": True}
    quiet = client.delete_objects(Bucket=bucket, Delete=last, BypassGovernanceRetention=True)
    assert "Deleted" not in quiet and "Errors" not in quiet
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_1000_are_deleted_at_once_and_1001_are_not(client, bucket):
    client.put_object(Bucket=bucket, Key="0", Body=b"")
    listed = [{"Key": str(number)} for number in range(1001)]
    assert s3.refusal(client.delete_objects, Bucket=bucket, Delete={"Objects": listed}) == (400, "MalformedXML")
    assert "Contents" in client.list_objects_v2(Bucket=bucket)
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": listed[:1000]})
    assert len(answer["Deleted"]) == 1000
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_one_key_that_cannot_be_refuses_them_all(client, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    listed = [{"Key": "a"}, {"Key": "x" * 1025}]
    refused = s3.refusal(client.delete_objects, Bucket=bucket, Delete={"Objects": listed})
    assert refused == (400, "KeyTooLongError")
    assert "Contents" in client.list_objects_v2(Bucket=bucket)


class TestCopies:
    def test_a_copy_has_the_bytes_and_the_fields(self, either, bucket, new_bucket):
        body = s3.content(70 * KIB, "copied")
        put = either.put_object(Bucket=bucket, Key="films/ü+ a.mp4", Body=body, Tagging="a=1", **STORED_FIELDS)
        for target in [bucket, new_bucket()]:
            source = {"Bucket": bucket, "Key": "films/ü+ a.mp4"}
            copy = either.copy_object(Bucket=target, Key="copy", CopySource=source)["CopyObjectResult"]
            assert copy["ETag"] == put["ETag"]
            got = either.get_object(Bucket=target, Key="copy")
            assert got["Body"].read() == body
            assert {name: got[name] for name in STORED_FIELDS} == STORED_FIELDS
            assert got["TagCount"] == 1
        # A copy lives on when its source is gone.
        either.delete_object(Bucket=bucket, Key="films/ü+ a.mp4")
        assert either.get_object(Bucket=bucket, Key="copy")["Body"].read() == body

    def test_fields_and_tags_may_be_replaced(self, client, bucket):
        client.put_object(Bucket=bucket, Key="a", Body=b"x", Tagging="a=1", **STORED_FIELDS)
        source = {"Bucket": bucket, "Key": "a"}
        client.copy_object(
            Bucket=bucket,
            Key="a",
            CopySource=source,
            MetadataDirective="REPLACE",
            Metadata={"new": "1"},
            ContentType="video/mp4",
            TaggingDirective="REPLACE",
            Tagging="b=2&c=3",
        )
        got = client.get_object(Bucket=bucket, Key="a")
        assert (got["Metadata"], got["ContentType"], got["Body"].read()) == ({"new": "1"}, "video/mp4", b"x")
        assert "CacheControl" not in got
        tags = client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
        assert tags == [{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}]

    def test_a_copy_onto_itself_must_change_something(self, client, bucket):
        client.put_object(Bucket=bucket, Key="a", Body=b"x")
        source = {"Bucket": bucket, "Key": "a"}
        assert s3.refusal(client.copy_object, Bucket=bucket, Key="a", CopySource=source) == (400, "InvalidRequest")

    def test_a_source_that_is_not_there_is_named(self, client, bucket):
        client.put_object(Bucket=bucket, Key="a", Body=b"x")
        for source, expected in [
            ({"Bucket": bucket, "Key": "b"}, (404, "NoSuchKey")),
            ({"Bucket": "there-is-none", "Key": "a"}, (404, "NoSuchBucket")),
            ("nothing", (400, "InvalidArgument")),
        ]:
            assert s3.refusal(client.copy_object, Bucket=bucket, Key="copy", CopySource=source) == expected
        source = {"Bucket": bucket, "Key": "a"}
        refused = s3.refusal(client.copy_object, Bucket="there-is-none", Key="a", CopySource=source)
        assert refused == (404, "NoSuchBucket")

    def test_conditions_on_the_source_are_kept(self, client, bucket):
        etag = client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
        modified = client.head_object(Bucket=bucket, Key="a")["LastModified"]
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        copies = [
            ({"CopySourceIfMatch": etag}, None),
            ({"CopySourceIfMatch": '"other"'}, 412),
            ({"CopySourceIfNoneMatch": '"other"'}, None),
            ({"CopySourceIfNoneMatch": etag}, 412),
            ({"CopySourceIfModifiedSince": long_ago}, None),
            ({"CopySourceIfModifiedSince": modified}, 412),
            ({"CopySourceIfUnmodifiedSince": modified}, None),
            ({"CopySourceIfUnmodifiedSince": long_ago}, 412),
            # The tag outweighs the date.
            ({"CopySourceIfMatch": etag, "CopySourceIfUnmodifiedSince": long_ago}, None),
            ({"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": long_ago}, 412),
        ]
        for conditions, status in copies:
            call = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "a"}} | conditions
            if status is None:
                assert client.copy_object(**call)["CopyObjectResult"]["ETag"] == etag, conditions
            else:
                assert s3.refusal(client.copy_object, **call) == (status, "PreconditionFailed"), conditions


class TestConditions:
    def test_reads_have_the_conditions_of_http(self, client, bucket):
        etag = client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
        modified = client.head_object(Bucket=bucket, Key="a")["LastModified"]
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        reads = [
            ({"IfMatch": etag}, 200),
            ({"IfMatch": "*"}, 200),
            ({"IfMatch": '"other"'}, 412),
            ({"IfNoneMatch": '"other"'}, 200),
            ({"IfNoneMatch": etag}, 304),
            ({"IfNoneMatch": "*"}, 304),
            ({"IfModifiedSince": long_ago}, 200),
            ({"IfModifiedSince": modified}, 304),
            ({"IfUnmodifiedSince": modified}, 200),
            ({"IfUnmodifiedSince": long_ago}, 412),
            # The tag outweighs the date (RFC 9110 section 13.2.2, and S3's own table).
            ({"IfMatch": etag, "IfUnmodifiedSince": long_ago}, 200),
            ({"IfNoneMatch": etag, "IfModifiedSince": long_ago}, 304),
        ]
        for conditions, status in reads:
            for read in [client.get_object, client.head_object]:
                if status == 200:
                    read(Bucket=bucket, Key="a", **conditions)
                else:
                    assert s3.refusal(read, Bucket=bucket, Key="a", **conditions)[0] == status, conditions

    def test_a_write_may_demand_that_there_is_nothing(self, either, bucket):
        put = {"Bucket": bucket, "Key": "a", "IfNoneMatch": "*"}
        either.put_object(Body=b"first", **put)
        assert s3.refusal(either.put_object, Body=b"second", **put) == (412, "PreconditionFailed")
        assert either.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"
        either.delete_object(Bucket=bucket, Key="a")
        either.put_object(Body=b"third", **put)
        assert either.get_object(Bucket=bucket, Key="a")["Body"].read() == b"third"

    def test_a_write_may_demand_what_it_replaces(self, either, bucket):
        put = {"Bucket": bucket, "Key": "a"}
        assert s3.refusal(either.put_object, Body=b"", IfMatch='"any"', **put) == (404, "NoSuchKey")
        etag = either.put_object(Body=b"first", **put)["ETag"]
        assert s3.refusal(either.put_object, Body=b"", IfMatch='"other"', **put) == (412, "PreconditionFailed")
        either.put_object(Body=b"second", IfMatch=etag, **put)
        # The tag of the first is used up.
        assert s3.refusal(either.put_object, Body=b"", IfMatch=etag, **put) == (412, "PreconditionFailed")
        # S3 itself takes no tags here.
        current = either.head_object(**put)["ETag"]
        assert s3.refusal(either.put_object, Body=b"", IfNoneMatch=current, **put) == (412, "PreconditionFailed")
        assert either.get_object(**put)["Body"].read() == b"second"
        either.put_object(Body=b"third", IfNoneMatch=etag, **put)
        assert either.get_object(**put)["Body"].read() == b"third"

    def test_a_deletion_may_demand_what_it_deletes(self, client, bucket):
        etag = client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
        delete = {"Bucket": bucket, "Key": "a"}
        assert s3.refusal(client.delete_object, IfMatch='"other"', **delete) == (412, "PreconditionFailed")
        client.delete_object(IfMatch=etag, **delete)
        assert s3.refusal(client.head_object, **delete) == (404, "404")
        listed = {"Objects": [{"Key": "b", "ETag": '"other"'}, {"Key": "c"}]}
        for key in "bc":
            client.put_object(Bucket=bucket, Key=key, Body=b"x")
        answer = client.delete_objects(Bucket=bucket, Delete=listed)
        assert [found["Key"] for found in answer["Deleted"]] == ["c"]
        assert [(found["Key"], found["Code"]) for found in answer["Errors"]] == [("b", "PreconditionFailed")]

    def test_a_copy_and_a_completion_may_demand_too(self, client, bucket):
        etag = client.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
        copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "a"}}
        client.copy_object(IfNoneMatch="*", **copy)
        assert s3.refusal(client.copy_object, IfNoneMatch="*", **copy) == (412, "PreconditionFailed")
        assert s3.refusal(client.copy_object, IfMatch='"other"', **copy) == (412, "PreconditionFailed")
        client.copy_object(IfMatch=etag, **copy)
        target = {"Bucket": bucket, "Key": "a"}
        upload = client.create_multipart_upload(**target)["UploadId"]
        part = client.upload_part(UploadId=upload, PartNumber=1, Body=b"new", **target)
        finish = target | {
            "UploadId": upload,
            "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        }
        refused = s3.refusal(client.complete_multipart_upload, IfNoneMatch="*", **finish)
        assert refused == (412, "PreconditionFailed")
        # The upload is still there to be finished.
        client.complete_multipart_upload(IfMatch=etag, **finish)
        assert client.get_object(**target)["Body"].read() == b"new"


class TestTags:
    def test_tags_are_set_replaced_and_removed(self, either, bucket):
        put = {"Bucket": bucket, "Key": "a"}
        either.put_object(Body=b"x", Tagging="colour=red%20%2B%20blue&empty=", **put)
        tags = either.get_object_tagging(**put)["TagSet"]
        assert tags == [{"Key": "colour", "Value": "red + blue"}, {"Key": "empty", "Value": ""}]
        assert either.get_object(**put)["TagCount"] == 2
        etag = either.head_object(**put)["ETag"]
        replaced = [{"Key": "größe/+-=._:@", "Value": "ümläut 1"}]
        either.put_object_tagging(Tagging={"TagSet": replaced}, **put)
        assert either.get_object_tagging(**put)["TagSet"] == replaced
        assert either.head_object(**put)["ETag"] == etag
        either.delete_object_tagging(**put)
        assert either.get_object_tagging(**put)["TagSet"] == []
        assert "TagCount" not in either.get_object(**put)

    @pytest.mark.parametrize(
        ("tags", "code"),
        [
            ([{"Key": str(number), "Value": ""} for number in range(11)], "BadRequest"),
            ([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "InvalidTag"),
            ([{"Key": "k" * 129, "Value": ""}], "InvalidTag"),
            ([{"Key": "k", "Value": "v" * 257}], "InvalidTag"),
            ([{"Key": "no*star", "Value": ""}], "InvalidTag"),
        ],
    )
    def test_tags_that_break_a_rule_are_refused(self, client, bucket, tags, code):
        client.put_object(Bucket=bucket, Key="a", Body=b"x", Tagging="kept=1")
        refused = s3.refusal(client.put_object_tagging, Bucket=bucket, Key="a", Tagging={"TagSet": tags})
        assert refused == (400, code)
        assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == [{"Key": "kept", "Value": "1"}]

    def test_as_many_and_as_long_as_may_be_are_taken(self, client, bucket):
        client.put_object(Bucket=bucket, Key="a", Body=b"x")
        tags = [{"Key": f"{number}".ljust(128, "k"), "Value": "v" * 256} for number in range(10)]
        client.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": tags})
        found = client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
        assert sorted(found, key=str) == sorted(tags, key=str)

    def test_the_tags_of_nothing_are_no_such_key(self, client, bucket):
        for call in [client.get_object_tagging, client.delete_object_tagging]:
            assert s3.refusal(call, Bucket=bucket, Key="a") == (404, "NoSuchKey")
        refused = s3.refusal(client.put_object_tagging, Bucket=bucket, Key="a", Tagging={"TagSet": []})
        assert refused == (404, "NoSuchKey")


def test_attributes_are_those_that_were_asked_for(client, bucket):
    put = client.put_object(Bucket=bucket, Key="a", Body=b"x" * 10)
    every = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    found = client.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=every)
    assert (found["ETag"], found["ObjectSize"], found["StorageClass"]) == (put["ETag"].strip('"'), 10, "STANDARD")
    assert found["Checksum"]["ChecksumCRC32"] == checksums.text("CRC32", b"x" * 10)
    assert found["Checksum"]["ChecksumType"] == "FULL_OBJECT"
    assert "ObjectParts" not in found
    one = client.get_object_attributes(Bucket=bucket, Key="a", ObjectAttributes=["ObjectSize"])
    assert one["ObjectSize"] == 10 and "ETag" not in one and "Checksum" not in one
    refused = s3.refusal(client.get_object_attributes, Bucket=bucket, Key="b", ObjectAttributes=["ETag"])
    assert refused == (404, "NoSuchKey")


def test_bytes_are_appended_where_the_object_ends(either, bucket):
    """`x-amz-write-offset-bytes`, which AWS has for directory buckets."""
    put = {"Bucket": bucket, "Key": "log"}
    pieces = [s3.content(size, "append") for size in [10, 5 * KIB, 70 * KIB, 1]]
    written = b""
    for piece in pieces:
        either.put_object(Body=piece, WriteOffsetBytes=len(written), **put)
        written += piece
        assert either.get_object(**put)["Body"].read() == written
    for wrong in [0, len(written) - 1, len(written) + 1]:
        refused = s3.refusal(either.put_object, Body=b"no", WriteOffsetBytes=wrong, **put)
        assert refused == (400, "InvalidWriteOffset"), wrong
    assert either.get_object(**put)["Body"].read() == written
    part = either.get_object(Range="bytes=5-80000", **put)
    assert part["Body"].read() == written[5:80001]


def test_the_transfer_manager_moves_small_and_large_files(either, bucket, tmp_path):
    transfer = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    for size in [0, 6 * MIB - 1, 13 * MIB]:
        body = s3.content(size, "transfer")
        file = tmp_path / "sent"
        file.write_bytes(body)
        extra = {"ContentType": "video/mp4", "Metadata": {"a": "b"}}
        either.upload_file(str(file), bucket, "sent", Config=transfer, ExtraArgs=extra)
        either.copy({"Bucket": bucket, "Key": "sent"}, bucket, "copied", Config=transfer)
        for key in ["sent", "copied"]:
            either.download_file(bucket, key, str(tmp_path / key), Config=transfer)
            assert (tmp_path / key).read_bytes() == body
            assert either.head_object(Bucket=bucket, Key=key)["ContentType"] == "video/mp4"
        stream = io.BytesIO()
        either.download_fileobj(bucket, "copied", stream, Config=transfer)
        assert stream.getvalue() == body
        either.upload_fileobj(io.BytesIO(body), bucket, "streamed", Config=transfer)
        assert either.get_object(Bucket=bucket, Key="streamed")["Body"].read() == body
