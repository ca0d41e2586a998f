"""Buckets with versions, by boto3."""

from harness import s3
from harness.s3 import KIB


def _put(client, bucket, key, body):
    return client.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]


def _listed(client, bucket, **query):
    """(key, version, whether it is a marker, whether it is the latest), as listed."""
    page = client.list_object_versions(Bucket=bucket, **query)
    versions = [(v["Key"], v["VersionId"], False, v["IsLatest"], v["LastModified"]) for v in page.get("Versions", [])]
    markers = [(m["Key"], m["VersionId"], True, m["IsLatest"], m["LastModified"]) for m in page.get("DeleteMarkers", [])]
    return {found[:4] for found in versions + markers}


def test_versioning_is_off_until_it_is_enabled_and_then_enabled_or_suspended(client, bucket):
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    for status in ["Enabled", "Suspended", "Enabled"]:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert client.get_bucket_versioning(Bucket=bucket)["Status"] == status
    wrong = s3.refusal(client.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Off"})
    assert wrong in [(400, "IllegalVersioningConfigurationException"), (400, "MalformedXML")]


def test_every_version_can_be_read(either, versioned):
    bodies = [s3.content(size, "versions") for size in [0, 10, 5 * KIB, 70 * KIB]]
    ids = [_put(either, versioned, "a", body) for body in bodies]
    assert len(set(ids)) == len(ids) and "null" not in ids
    for version, body in zip(ids, bodies, strict=True):
        got = either.get_object(Bucket=versioned, Key="a", VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (body, version)
        head = either.head_object(Bucket=versioned, Key="a", VersionId=version)
        assert (head["ContentLength"], head["VersionId"]) == (len(body), version)
    latest = either.get_object(Bucket=versioned, Key="a")
    assert (latest["Body"].read(), latest["VersionId"]) == (bodies[-1], ids[-1])
    listed = [found["VersionId"] for found in either.list_object_versions(Bucket=versioned)["Versions"]]
    assert listed == ids[::-1], "the newest comes first"
    assert [found["Size"] for found in either.list_objects_v2(Bucket=versioned)["Contents"]] == [70 * KIB]


def test_a_deletion_leaves_a_marker_and_every_version(client, versioned):
    first = _put(client, versioned, "a", b"first")
    deleted = client.delete_object(Bucket=versioned, Key="a")
    assert deleted["DeleteMarker"] is True
    marker = deleted["VersionId"]
    target = {"Bucket": versioned, "Key": "a"}
    assert s3.refusal(client.get_object, **target) == (404, "NoSuchKey")
    assert s3.refusal(client.head_object, **target) == (404, "404")
    assert s3.refusal(client.get_object, VersionId=marker, **target) == (405, "MethodNotAllowed")
    assert s3.refusal(client.head_object, VersionId=marker, **target) == (405, "405")
    assert "Contents" not in client.list_objects_v2(Bucket=versioned)
    assert _listed(client, versioned) == {("a", marker, True, True), ("a", first, False, False)}
    assert client.get_object(VersionId=first, **target)["Body"].read() == b"first"
    # Without the marker the object is back.
    removed = client.delete_object(VersionId=marker, **target)
    assert (removed["DeleteMarker"], removed["VersionId"]) == (True, marker)
    assert client.get_object(**target)["Body"].read() == b"first"
    # A version is deleted for good.
    gone = client.delete_object(VersionId=first, **target)
    assert gone["VersionId"] == first and "DeleteMarker" not in gone
    assert s3.refusal(client.get_object, VersionId=first, **target) == (404, "NoSuchVersion")
    assert _listed(client, versioned) == set()


def test_the_refusal_of_a_marker_says_that_it_is_one(client, anonymous, versioned):
    _put(client, versioned, "a", b"x")
    marker = client.delete_object(Bucket=versioned, Key="a")["VersionId"]
    for more, status in [({}, 404), ({"VersionId": marker}, 405)]:
        url = client.generate_presigned_url("get_object", Params={"Bucket": versioned, "Key": "a"} | more)
        answer = anonymous.get(url)
        assert (answer.status_code, answer.headers["x-amz-delete-marker"]) == (status, "true")
        assert answer.headers["x-amz-version-id"] == marker
        if status == 405:
            assert "DELETE" in answer.headers["allow"] and answer.headers["last-modified"]


def test_what_was_there_before_is_the_version_null(client, bucket):
    client.put_object(Bucket=bucket, Key="a", Body=b"before")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert client.get_object(Bucket=bucket, Key="a", VersionId="null")["Body"].read() == b"before"
    second = _put(client, bucket, "a", b"second")
    assert _listed(client, bucket) == {("a", "null", False, False), ("a", second, False, True)}
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    # What is written now replaces `null` and nothing else.
    for body in [b"third", b"fourth"]:
        assert client.put_object(Bucket=bucket, Key="a", Body=body).get("VersionId", "null") == "null"
        assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == body
        assert _listed(client, bucket) == {("a", "null", False, True), ("a", second, False, False)}
    assert client.get_object(Bucket=bucket, Key="a", VersionId=second)["Body"].read() == b"second"
    # And so does the marker of a deletion.
    deleted = client.delete_object(Bucket=bucket, Key="a")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert _listed(client, bucket) == {("a", "null", True, True), ("a", second, False, False)}
    client.delete_object(Bucket=bucket, Key="a", VersionId="null")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"second"


def test_many_versions_are_deleted_at_once(client, versioned):
    versions = [_put(client, versioned, key, key.encode()) for key in ["a", "a", "b"]]
    listed = [
        {"Key": "a", "VersionId": versions[0]},
        {"Key": "b"},
        {"Key": "never was"},
        {"Key": "a", "VersionId": "null"},
    ]
    answer = client.delete_objects(Bucket=versioned, Delete={"Objects": listed})
    deleted = {found["Key"]: found for found in answer["Deleted"] if found.get("VersionId") != "null"}
    assert deleted["a"]["VersionId"] == versions[0] and "DeleteMarker" not in deleted["a"]
    assert deleted["b"]["DeleteMarker"] is True and deleted["b"]["DeleteMarkerVersionId"]
    assert deleted["never was"]["DeleteMarker"] is True
    left = {found[:3] for found in _listed(client, versioned)}
    assert left == {
        ("a", versions[1], False),
        ("b", versions[2], False),
        ("b", deleted["b"]["DeleteMarkerVersionId"], True),
        ("never was", deleted["never was"]["DeleteMarkerVersionId"], True),
    }
    # A marker can be named too.
    marker = {"Key": "b", "VersionId": deleted["b"]["DeleteMarkerVersionId"]}
    (found,) = client.delete_objects(Bucket=versioned, Delete={"Objects": [marker]})["Deleted"]
    assert (found["DeleteMarker"], found["DeleteMarkerVersionId"]) == (True, marker["VersionId"])
    assert client.get_object(Bucket=versioned, Key="b")["Body"].read() == b"b"


def test_versions_are_listed_with_every_size_of_a_page(client, versioned):
    wanted = []
    for key, count in [("a", 3), ("b/1", 2), ("b/2", 1), ("c d", 4)]:
        versions = [_put(client, versioned, key, b"x") for _ in range(count)]
        if key == "b/1":
            versions.append(client.delete_object(Bucket=versioned, Key=key)["VersionId"])
        wanted += [(key, version) for version in reversed(versions)]
    for size in range(1, len(wanted) + 2):
        found, more = [], {}
        while True:
            page = client.list_object_versions(Bucket=versioned, MaxKeys=size, **more)
            part = page.get("Versions", []) + page.get("DeleteMarkers", [])
            assert len(part) <= size
            order = {entry: number for number, entry in enumerate(wanted)}
            found += sorted(((e["Key"], e["VersionId"]) for e in part), key=order.__getitem__)
            if not page["IsTruncated"]:
                break
            more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        assert found == wanted, size
    grouped = client.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [found["Prefix"] for found in grouped["CommonPrefixes"]] == ["b/"]
    assert {found["Key"] for found in grouped["Versions"]} == {"a", "c d"}
    # A key alone begins behind all of its versions.
    behind = client.list_object_versions(Bucket=versioned, KeyMarker="b/1")
    assert {found["Key"] for found in behind["Versions"]} == {"b/2", "c d"}


def test_a_version_has_tags_and_attributes_of_its_own(client, versioned):
    first, second = (_put(client, versioned, "a", body) for body in [b"1", b"22"])
    target = {"Bucket": versioned, "Key": "a"}
    client.put_object_tagging(VersionId=first, Tagging={"TagSet": [{"Key": "which", "Value": "first"}]}, **target)
    assert client.get_object_tagging(**target)["TagSet"] == []
    tagged = client.get_object_tagging(VersionId=first, **target)
    assert (tagged["TagSet"], tagged["VersionId"]) == ([{"Key": "which", "Value": "first"}], first)
    for version, size in [(first, 1), (second, 2)]:
        found = client.get_object_attributes(VersionId=version, ObjectAttributes=["ObjectSize"], **target)
        assert (found["ObjectSize"], found["VersionId"]) == (size, version)
    client.delete_object_tagging(VersionId=first, **target)
    assert client.get_object_tagging(VersionId=first, **target)["TagSet"] == []


def test_an_old_version_is_copied(client, versioned):
    first = _put(client, versioned, "a", b"first")
    _put(client, versioned, "a", b"second")
    source = {"Bucket": versioned, "Key": "a", "VersionId": first}
    copied = client.copy_object(Bucket=versioned, Key="a", CopySource=source)
    assert copied["CopySourceVersionId"] == first
    assert copied["VersionId"] not in (None, first)
    assert client.get_object(Bucket=versioned, Key="a")["Body"].read() == b"first"
    marker = client.delete_object(Bucket=versioned, Key="a")["VersionId"]
    for source, status in [
        ({"Bucket": versioned, "Key": "a"}, (404, "NoSuchKey")),
        ({"Bucket": versioned, "Key": "a", "VersionId": marker}, (400, "InvalidRequest")),
    ]:
        assert s3.refusal(client.copy_object, Bucket=versioned, Key="b", CopySource=source) == status


def test_a_version_that_never_was_is_refused(client, versioned):
    version = _put(client, versioned, "a", b"x")
    other = _put(client, versioned, "b", b"x")
    client.delete_object(Bucket=versioned, Key="b", VersionId=other)
    target = {"Bucket": versioned, "Key": "a"}
    for call in [client.get_object, client.get_object_tagging, client.get_object_acl]:
        assert s3.refusal(call, VersionId=other, **target) == (404, "NoSuchVersion"), call.__name__
        assert s3.refusal(call, VersionId="not one of ours", **target) == (400, "InvalidArgument"), call.__name__
    assert client.get_object(VersionId=version, **target)["Body"].read() == b"x"
    # To delete a version that is not there is no error.
    client.delete_object(VersionId=other, **target)


def test_a_bucket_with_a_marker_alone_is_not_empty(client, versioned):
    marker = client.delete_object(Bucket=versioned, Key="never was")["VersionId"]
    assert s3.refusal(client.delete_bucket, Bucket=versioned) == (409, "BucketNotEmpty")
    client.delete_object(Bucket=versioned, Key="never was", VersionId=marker)
    client.delete_bucket(Bucket=versioned)


def test_a_multipart_upload_makes_a_version(client, versioned):
    first = _put(client, versioned, "a", b"first")
    target = {"Bucket": versioned, "Key": "a"}
    upload = client.create_multipart_upload(**target)["UploadId"]
    part = client.upload_part(UploadId=upload, PartNumber=1, Body=b"second", **target)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = client.complete_multipart_upload(UploadId=upload, MultipartUpload=parts, **target)
    assert client.get_object(VersionId=done["VersionId"], **target)["Body"].read() == b"second"
    assert client.get_object(VersionId=first, **target)["Body"].read() == b"first"
