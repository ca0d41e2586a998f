"""Whose objects are, and what their lists say of their owners (S3 user guide, "Controlling ownership of objects")."""

import httpx
import pytest

from harness import s3
from harness.launch import ACCESS_KEY_ID

DENIED = (403, "AccessDenied")
NO_LISTS = (400, "AccessControlListNotSupported")
FULL = "bucket-owner-full-control"
KEYS = [
    {"access_key_id": "landlord", "secret": "lets-others-write", "own_buckets_only": True},
    {"access_key_id": "guest", "secret": "writes-where-it-may", "own_buckets_only": True},
    {"access_key_id": "other", "secret": "has-nothing-to-do-with-it", "own_buckets_only": True},
    {"access_key_id": "narrow", "secret": "is-for-other-buckets", "buckets": ["logs-*"]},
]


@pytest.fixture(scope="module")
def node(module_launch):
    return module_launch.store(credentials=KEYS)


@pytest.fixture(scope="module")
def keys(node):
    return {key["access_key_id"]: s3.client(node.s3, access_key_id=key["access_key_id"], secret=key["secret"]) for key in KEYS}


@pytest.fixture
def client(keys):
    """Whose buckets the tests are about."""
    return keys["landlord"]


@pytest.fixture
def guest(keys):
    return keys["guest"]


@pytest.fixture
def open_bucket(client, new_bucket):
    """Makes a bucket into which everybody may write, by its policy, with controls or without."""

    def make(ownership=None, **more):
        if ownership:
            more["ObjectOwnership"] = ownership
        name = new_bucket(**more)
        allowed = {"Action": "s3:*", "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]}
        client.put_bucket_policy(Bucket=name, Policy=s3.policy(name, allowed))
        return name

    return make


def _controls(ownership):
    return {"Rules": [{"ObjectOwnership": ownership}]}


def _grants(answer):
    """The owner, and who has what."""
    return answer["Owner"]["ID"], [(g["Grantee"].get("ID", "group"), g["Permission"]) for g in answer["Grants"]]


def _written(guest, bucket, acl):
    """The owner of what is written in each way with this list."""
    more = {"ACL": acl} if acl else {}
    guest.put_object(Bucket=bucket, Key="put", Body=b"x", **more)
    guest.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "put"}, **more)
    upload = {"Bucket": bucket, "Key": "in-parts"}
    upload["UploadId"] = guest.create_multipart_upload(**upload, **more)["UploadId"]
    parts = guest.list_parts(**upload)
    (listed,) = guest.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert parts["Owner"] == listed["Owner"] and parts["Initiator"]["ID"] == listed["Initiator"]["ID"] == "guest"
    part = {"PartNumber": 1, "ETag": guest.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]}
    guest.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
    form = guest.generate_presigned_post(
        bucket, "posted", Fields={"acl": acl} if acl else None, Conditions=[{"acl": acl}] if acl else None
    )
    assert httpx.post(form["url"], data=form["fields"], files={"file": b"x"}).status_code == 204
    owners = {parts["Owner"]["ID"]}
    keys = ["copied", "in-parts", "posted", "put"]
    for key in keys:
        owners.add(guest.get_object_acl(Bucket=bucket, Key=key)["Owner"]["ID"])
    listings = [
        guest.list_objects(Bucket=bucket)["Contents"],
        guest.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"],
        guest.list_object_versions(Bucket=bucket)["Versions"],
    ]
    for listing in listings:
        assert [entry["Key"] for entry in listing] == keys
        owners |= {entry["Owner"]["ID"] for entry in listing}
    (owner,) = owners
    return owner


@pytest.mark.parametrize(
    ("ownership", "acl", "owner"),
    [
        (None, None, "guest"),
        (None, FULL, "guest"),
        ("ObjectWriter", None, "guest"),
        ("ObjectWriter", FULL, "guest"),
        ("BucketOwnerPreferred", None, "guest"),
        ("BucketOwnerPreferred", "private", "guest"),
        ("BucketOwnerPreferred", FULL, "landlord"),
        ("BucketOwnerEnforced", None, "landlord"),
        ("BucketOwnerEnforced", FULL, "landlord"),
    ],
)
def test_what_a_guest_writes_belongs_to_whom_ownership_says(open_bucket, guest, ownership, acl, owner):
    assert _written(guest, open_bucket(ownership), acl) == owner


def test_lists_for_the_bucket_owner_grant_what_a_guest_owns(open_bucket, client, guest):
    bucket = open_bucket()
    for acl, permission in [("bucket-owner-read", "READ"), (FULL, "FULL_CONTROL")]:
        guest.put_object(Bucket=bucket, Key="a", Body=b"x", ACL=acl)
        expected = ("guest", [("guest", "FULL_CONTROL"), ("landlord", permission)])
        assert _grants(guest.get_object_acl(Bucket=bucket, Key="a")) == expected
        guest.put_object_acl(Bucket=bucket, Key="a", ACL="private")
        guest.put_object_acl(Bucket=bucket, Key="a", ACL=acl)
        assert _grants(client.get_object_acl(Bucket=bucket, Key="a")) == expected
        client.put_object(Bucket=bucket, Key="b", Body=b"x", ACL=acl)
        assert _grants(client.get_object_acl(Bucket=bucket, Key="b")) == ("landlord", [("landlord", "FULL_CONTROL")])
        # Of a bucket they are `private`, as S3 ignores them there.
        client.put_bucket_acl(Bucket=bucket, ACL=acl)
        assert _grants(client.get_bucket_acl(Bucket=bucket)) == ("landlord", [("landlord", "FULL_CONTROL")])


def test_an_account_has_what_it_wrote_into_a_bucket_of_another(new_bucket, client, keys, guest):
    bucket = new_bucket(ACL="public-read-write")
    target = {"Bucket": bucket, "Key": "a"}
    guest.put_object(Body=b"mine", **target)
    assert guest.get_object(**target)["Body"].read() == b"mine"
    assert _grants(guest.get_object_acl(**target)) == ("guest", [("guest", "FULL_CONTROL")])
    assert s3.refusal(keys["other"].get_object, **target) == DENIED
    assert s3.refusal(keys["other"].put_object_acl, ACL="public-read", **target) == DENIED
    guest.put_object_acl(GrantRead="id=other", **target)
    assert keys["other"].get_object(**target)["Body"].read() == b"mine"
    # Ours: what the bucket's owner may do in it, its rights say.
    assert client.get_object(**target)["Body"].read() == b"mine"
    # A denial counts for owners, too.
    deny = {"Effect": "Deny", "Action": "s3:GetObject", "Principal": {"AWS": "arn:aws:iam::1:user/guest"}}
    client.put_bucket_policy(Bucket=bucket, Policy=s3.policy(bucket, deny))
    assert s3.refusal(guest.get_object, **target) == DENIED


def test_a_key_that_is_no_account_of_its_own_has_what_its_rights_say(open_bucket, client, keys):
    bucket = open_bucket()
    target = {"Bucket": bucket, "Key": "a"}
    keys["narrow"].put_object(Body=b"x", **target)
    client.delete_bucket_policy(Bucket=bucket)
    assert client.get_object_acl(**target)["Owner"]["ID"] == "narrow"
    assert s3.refusal(keys["narrow"].get_object, **target) == DENIED
    assert s3.refusal(keys["narrow"].put_object_acl, ACL="public-read", **target) == DENIED


def test_where_lists_are_off_only_the_bucket_owners_may_be_given(open_bucket, client, guest):
    bucket = open_bucket("BucketOwnerEnforced")
    target = {"Bucket": bucket, "Key": "a"}
    guest.put_object(Body=b"x", GrantFullControl="id=landlord", **target)
    copy = {"CopySource": target, "Bucket": bucket, "Key": "b"}
    for more in [{"ACL": "private"}, {"ACL": "bucket-owner-read"}, {"ACL": "public-read"}, {"GrantRead": "id=guest"}]:
        for who in [client, guest]:
            assert s3.refusal(who.put_object, Body=b"", **target, **more) == NO_LISTS
            assert s3.refusal(who.copy_object, **copy, **more) == NO_LISTS
            assert s3.refusal(who.create_multipart_upload, **target, **more) == NO_LISTS
        assert s3.refusal(client.put_object_acl, **target, **more) == NO_LISTS
        assert s3.refusal(client.put_bucket_acl, Bucket=bucket, **more) == NO_LISTS
    owners = {"Owner": {"ID": "landlord"}, "Grants": []}
    assert s3.refusal(client.put_object_acl, AccessControlPolicy=owners, **target) == NO_LISTS
    grantee = {"ID": "landlord", "Type": "CanonicalUser"}
    owners["Grants"].append({"Grantee": grantee, "Permission": "FULL_CONTROL"})
    for more in [{"ACL": FULL}, {"AccessControlPolicy": owners}]:
        client.put_object_acl(**target, **more)
        client.put_bucket_acl(Bucket=bucket, **more)
    assert s3.refusal(client.put_object_acl, Bucket=bucket, Key="none", ACL=FULL) == (404, "NoSuchKey")
    everything = ("landlord", [("landlord", "FULL_CONTROL")])
    assert _grants(client.get_object_acl(**target)) == _grants(client.get_bucket_acl(Bucket=bucket)) == everything
    # The guest owns nothing, and has what the policy gives it.
    client.delete_bucket_policy(Bucket=bucket)
    assert s3.refusal(guest.get_object, **target) == DENIED


def test_lists_come_back_when_they_count_again(new_bucket, client, guest, anonymous):
    bucket = new_bucket(ACL="public-read-write")
    target = {"Bucket": bucket, "Key": "a"}
    guest.put_object(Body=b"x", **target)
    guest.put_object_acl(ACL="public-read", **target)
    before = _grants(guest.get_object_acl(**target))
    enforced = {"Bucket": bucket, "OwnershipControls": _controls("BucketOwnerEnforced")}
    refused = (400, "InvalidBucketAclWithObjectOwnership")
    assert s3.refusal(client.put_bucket_ownership_controls, **enforced) == refused
    client.put_bucket_acl(Bucket=bucket, GrantRead="id=other")
    assert s3.refusal(client.put_bucket_ownership_controls, **enforced) == refused
    client.put_bucket_acl(Bucket=bucket, ACL="private")
    client.put_bucket_ownership_controls(**enforced)
    assert _grants(client.get_object_acl(**target)) == ("landlord", [("landlord", "FULL_CONTROL")])
    client.put_object_acl(ACL=FULL, **target)
    assert s3.refusal(guest.get_object, **target) == DENIED
    client.delete_bucket_ownership_controls(Bucket=bucket)
    assert _grants(guest.get_object_acl(**target)) == before
    assert guest.get_object(**target)["Body"].read() == b"x"


def test_a_bucket_is_not_made_with_a_list_that_could_not_count(client):
    made = {"Bucket": "never-made", "ObjectOwnership": "BucketOwnerEnforced"}
    refused = (400, "InvalidBucketAclWithObjectOwnership")
    for more in [{"ACL": "public-read"}, {"GrantRead": "id=guest"}]:
        assert s3.refusal(client.create_bucket, **made, **more) == refused
    client.create_bucket(ACL="private", **made)
    client.delete_bucket(Bucket="never-made")


def test_a_list_may_be_empty_and_its_owner_keeps_the_list_itself(new_bucket, client, guest):
    bucket = new_bucket(ACL="public-read-write")
    target = {"Bucket": bucket, "Key": "a"}
    guest.put_object(Body=b"x", **target)
    for who, get, put, of in [
        (guest, guest.get_object_acl, guest.put_object_acl, target),
        (client, client.get_bucket_acl, client.put_bucket_acl, {"Bucket": bucket}),
    ]:
        found = get(**of)
        before = {"Owner": found["Owner"], "Grants": found["Grants"]}
        put(AccessControlPolicy=before | {"Grants": []}, **of)
        assert _grants(get(**of)) == (found["Owner"]["ID"], [])
        if who is guest:
            assert s3.refusal(guest.get_object, **target) == DENIED
        less = {"Grantee": {"ID": found["Owner"]["ID"], "Type": "CanonicalUser"}, "Permission": "READ"}
        put(AccessControlPolicy=before | {"Grants": [less]}, **of)
        assert _grants(get(**of)) == (found["Owner"]["ID"], [(found["Owner"]["ID"], "READ")])
        if who is guest:
            assert guest.get_object(**target)["Body"].read() == b"x"
        put(AccessControlPolicy=before, **of)
        assert get(**of)["Grants"] == found["Grants"]


def test_a_grantee_is_a_key_of_this_store(new_bucket, client):
    bucket = new_bucket()
    target = {"Bucket": bucket, "Key": "a"}
    client.put_object(Body=b"x", **target)
    unknown = (400, "InvalidArgument")
    for permission in ["FULL_CONTROL", "READ"]:
        grant = {"Grantee": {"ID": "nobody", "Type": "CanonicalUser"}, "Permission": permission}
        document = {"Owner": {"ID": "landlord"}, "Grants": [grant]}
        assert s3.refusal(client.put_bucket_acl, Bucket=bucket, AccessControlPolicy=document) == unknown
        assert s3.refusal(client.put_object_acl, AccessControlPolicy=document, **target) == unknown
        # Nor when it is called the owner.
        document["Owner"]["ID"] = "nobody"
        assert s3.refusal(client.put_object_acl, AccessControlPolicy=document, **target) == unknown
    for id, expected in [("nobody", unknown), (ACCESS_KEY_ID, None), ("guest", None)]:
        given = {"GrantRead": f"id={id}"}
        for call, more in [
            (client.put_object, target),
            (client.put_object_acl, target),
            (client.copy_object, target | {"CopySource": {"Bucket": bucket, "Key": "a"}, "MetadataDirective": "REPLACE"}),
            (client.create_multipart_upload, target),
            (client.put_bucket_acl, {"Bucket": bucket}),
            (client.create_bucket, {"Bucket": f"for-{id}"}),
        ]:
            if expected:
                assert s3.refusal(call, **more, **given) == expected
            else:
                call(**more, **given)
