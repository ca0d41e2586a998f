"""Listings, by boto3, compared with a model of a few lines, with every size of a page."""

import pytest

from harness import s3

KEYS = sorted(
    [
        "a",
        "a/",
        "a/1",
        "a/2/x",
        "a/2/y",
        "a//z",
        "b-0",
        "b.0",
        "b/0",
        "b0",
        "c d/e+f",
        "c%20d",
        "films/2024/one.mp4",
        "films/2024/two.mp4",
        "films/2025/",
        "films/2025/three.mp4",
        "films/zebra",
        "ä/ö",
        "日/本",
        "\U0001f3ac/x",
        "\uffee",
        "z",
    ],
    key=lambda key: key.encode(),
)
QUERIES = [
    {},
    {"Prefix": "films/"},
    {"Prefix": "nothing"},
    {"Delimiter": "/"},
    {"Delimiter": "/", "Prefix": "a/"},
    {"Delimiter": "/", "Prefix": "films/2"},
    {"Delimiter": "2"},
    {"Delimiter": "m/2"},
    {"Delimiter": "/", "Prefix": "films"},
]


def expected(query, keys=KEYS, after=""):
    """What S3 lists: keys and common prefixes in the order of their bytes, each prefix once."""
    prefix, delimiter = query.get("Prefix", ""), query.get("Delimiter", "")
    found = []
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = ("key", key) if at < 0 else ("prefix", key[: at + len(delimiter)])
        if entry not in found:
            found.append(entry)
    return found


def entries(page, what="Contents"):
    keys = [("key", found["Key"]) for found in page.get(what, [])]
    prefixes = [("prefix", found["Prefix"]) for found in page.get("CommonPrefixes", [])]
    return sorted(keys + prefixes, key=lambda entry: entry[1].encode())


@pytest.fixture(scope="module")
def filled(client):
    name = "listing-filled"
    client.create_bucket(Bucket=name)
    for key in KEYS:
        client.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_size_of_a_page_lists_the_same(client, filled, query):
    wanted = expected(query)
    for size in range(1, len(wanted) + 2):
        for listing, following in [
            (client.list_objects_v2, ("ContinuationToken", "NextContinuationToken")),
            (client.list_objects, ("Marker", "NextMarker")),
        ]:
            found = []
            for page in _pages(listing, following, {"Bucket": filled, "MaxKeys": size} | query):
                part = entries(page)
                assert len(part) <= size
                assert page["MaxKeys"] == size
                assert page.get("KeyCount", len(part)) == len(part)
                found += part
            assert found == wanted, (size, listing.__name__)


def _pages(listing, following, query):
    argument, answer = following
    more = {}
    while True:
        page = listing(**query, **more)
        yield page
        if not page["IsTruncated"]:
            return
        # Version 1 names the next page only with a delimiter; otherwise it is behind the last key.
        more = {argument: page[answer] if answer in page else page["Contents"][-1]["Key"]}


@pytest.mark.parametrize("after", ["a", "a/", "b", "films/2024/one.mp4", "\U0001f3ac", "zzzz", "\U0010ffff"])
def test_a_listing_begins_behind_any_text(client, filled, after):
    wanted = expected({}, after=after)
    v1 = client.list_objects(Bucket=filled, Marker=after)
    assert (entries(v1), v1["Marker"]) == (wanted, after)
    v2 = client.list_objects_v2(Bucket=filled, StartAfter=after)
    assert (entries(v2), v2["StartAfter"]) == (wanted, after)


def test_an_entry_says_what_is_to_be_known(client, filled):
    (found,) = client.list_objects_v2(Bucket=filled, Prefix="films/zebra", FetchOwner=True)["Contents"]
    head = client.head_object(Bucket=filled, Key="films/zebra")
    assert (found["ETag"], found["Size"], found["StorageClass"]) == (head["ETag"], 11, "STANDARD")
    assert found["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert found["Owner"]["ID"]
    assert "CRC32" in found["ChecksumAlgorithm"]
    (found,) = client.list_objects_v2(Bucket=filled, Prefix="films/zebra")["Contents"]
    assert "Owner" not in found
    # Version 1 always names the owner.
    (found,) = client.list_objects(Bucket=filled, Prefix="films/zebra")["Contents"]
    assert found["Owner"]["ID"]


def test_no_more_than_1000_come_at_once_and_none_may_be_asked_for(client, filled):
    page = client.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"], entries(page)) == (0, False, [])
    assert client.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    assert client.list_objects(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    for wrong in [{"MaxKeys": -1}, {"ContinuationToken": "made up"}, {"EncodingType": "rot13"}]:
        refused = s3.refusal(client.list_objects_v2, Bucket=filled, **wrong)
        assert refused == (400, "InvalidArgument"), wrong


def test_versions_of_unversioned_objects_are_null_and_listed_with_every_size_of_a_page(client, filled):
    for query in [{}, {"Prefix": "films/", "Delimiter": "/"}]:
        wanted = expected(query)
        for size in [1, 2, 3, 5, len(wanted), len(wanted) + 1]:
            found = []
            more = {}
            while True:
                page = client.list_object_versions(Bucket=filled, MaxKeys=size, **query, **more)
                part = entries(page, "Versions")
                assert len(part) <= size
                assert all(found["VersionId"] == "null" and found["IsLatest"] for found in page.get("Versions", []))
                found += part
                if not page["IsTruncated"]:
                    break
                more = {"KeyMarker": page["NextKeyMarker"]}
                if "NextVersionIdMarker" in page:
                    more["VersionIdMarker"] = page["NextVersionIdMarker"]
            assert found == wanted, size


def test_uploads_are_listed_with_every_size_of_a_page(client, bucket):
    keys = ["a", "a", "a", "b/1", "b/2", "c d", "ü/x"]
    started = [(key, client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys]
    for query in [{}, {"Prefix": "b/"}, {"Delimiter": "/"}]:
        wanted = expected(query, keys)
        # Uploads of one key come each for itself.
        wanted = [entry for entry in wanted for _ in range(keys.count(entry[1]) if entry[0] == "key" else 1)]
        for size in range(1, len(wanted) + 2):
            found, ids, more = [], [], {}
            while True:
                page = client.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **query, **more)
                part = entries(page, "Uploads")
                assert len(part) <= size
                found += part
                ids += [(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", [])]
                if not page["IsTruncated"]:
                    break
                more = {"KeyMarker": page["NextKeyMarker"]}
                if page.get("NextUploadIdMarker"):
                    more["UploadIdMarker"] = page["NextUploadIdMarker"]
            assert found == wanted, (query, size)
            assert len(ids) == len(set(ids))
            if not query:
                # In the order in which they began, for one key.
                assert ids == started, size


def test_paginators_find_everything(client, filled):
    for name, what in [("list_objects", "Contents"), ("list_objects_v2", "Contents"), ("list_object_versions", "Versions")]:
        pages = client.get_paginator(name).paginate(Bucket=filled, PaginationConfig={"PageSize": 4})
        assert [found["Key"] for page in pages for found in page.get(what, [])] == KEYS
