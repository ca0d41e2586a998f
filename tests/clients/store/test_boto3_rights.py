"""Keys with fewer rights than everything, by boto3."""

import pytest

from harness import s3

DENIED = (403, "AccessDenied")
KEYS = [
    {"access_key_id": "reader", "secret": "reads-and-nothing-else", "rights": "read-only"},
    {"access_key_id": "writer", "secret": "reads-and-writes-here", "rights": "read-write", "buckets": ["photos", "logs-*"]},
    {"access_key_id": "tenant", "secret": "minds-its-own-buckets", "own_buckets_only": True},
    {"access_key_id": "guest", "secret": "reads-one-bucket-only", "rights": "read-only", "buckets": ["photos"]},
]


@pytest.fixture(scope="module")
def node(module_launch):
    node = module_launch.store(credentials=KEYS)
    owner = s3.client(node.s3)
    for bucket in ["photos", "logs-1", "private"]:
        owner.create_bucket(Bucket=bucket)
        owner.put_object(Bucket=bucket, Key="a", Body=b"x")
    return node


@pytest.fixture
def by_name(node):
    return {key["access_key_id"]: s3.client(node.s3, access_key_id=key["access_key_id"], secret=key["secret"]) for key in KEYS}


def test_a_reader_reads_everything_and_changes_nothing(by_name):
    reader = by_name["reader"]
    for bucket in ["photos", "private"]:
        assert reader.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"
        assert len(reader.list_objects_v2(Bucket=bucket)["Contents"]) == 1
        target = {"Bucket": bucket, "Key": "a"}
        assert s3.refusal(reader.put_object, Body=b"y", **target) == DENIED
        assert s3.refusal(reader.delete_object, **target) == DENIED
        assert s3.refusal(reader.create_multipart_upload, **target) == DENIED
        assert s3.refusal(reader.put_object_tagging, Tagging={"TagSet": []}, **target) == DENIED
        copy = {"Bucket": bucket, "Key": "copy", "CopySource": target}
        assert s3.refusal(reader.copy_object, **copy) == DENIED
        assert s3.refusal(reader.delete_bucket, Bucket=bucket) == DENIED
    assert s3.refusal(reader.create_bucket, Bucket="new-one") == DENIED
    answer = None
    try:
        answer = reader.delete_objects(Bucket="photos", Delete={"Objects": [{"Key": "a"}]})
    except reader.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"
    if answer is not None:
        assert [found["Code"] for found in answer["Errors"]] == ["AccessDenied"]
    assert reader.get_object(Bucket="photos", Key="a")["Body"].read() == b"x"


def test_a_writer_works_in_its_buckets_and_nowhere_else(by_name):
    writer = by_name["writer"]
    for bucket in ["photos", "logs-1"]:
        writer.put_object(Bucket=bucket, Key="mine", Body=b"y")
        assert writer.get_object(Bucket=bucket, Key="mine")["Body"].read() == b"y"
        writer.delete_object(Bucket=bucket, Key="mine")
        # What a bucket is, only a key with all rights decides.
        status = {"VersioningConfiguration": {"Status": "Enabled"}}
        assert s3.refusal(writer.put_bucket_versioning, Bucket=bucket, **status) == DENIED
        assert s3.refusal(writer.put_bucket_policy, Bucket=bucket, Policy=s3.policy(bucket, {"Action": "s3:*"})) == DENIED
        assert s3.refusal(writer.delete_bucket, Bucket=bucket) == DENIED
    for call in [writer.get_object, writer.delete_object]:
        assert s3.refusal(call, Bucket="private", Key="a") == DENIED
    assert s3.refusal(writer.put_object, Bucket="private", Key="b", Body=b"") == DENIED
    assert s3.refusal(writer.list_objects_v2, Bucket="private") == DENIED
    # What it may not read it may not copy out.
    copy = {"Bucket": "photos", "Key": "stolen", "CopySource": {"Bucket": "private", "Key": "a"}}
    assert s3.refusal(writer.copy_object, **copy) == DENIED
    upload = writer.create_multipart_upload(Bucket="photos", Key="stolen")["UploadId"]
    part = {"Bucket": "photos", "Key": "stolen", "UploadId": upload, "PartNumber": 1}
    assert s3.refusal(writer.upload_part_copy, CopySource={"Bucket": "private", "Key": "a"}, **part) == DENIED


def test_a_guest_sees_its_bucket_alone(by_name):
    guest = by_name["guest"]
    assert guest.get_object(Bucket="photos", Key="a")["Body"].read() == b"x"
    assert s3.refusal(guest.get_object, Bucket="logs-1", Key="a") == DENIED
    assert s3.refusal(guest.head_bucket, Bucket="private") == (403, "403")
    assert s3.refusal(guest.put_object, Bucket="photos", Key="b", Body=b"") == DENIED
    url = guest.generate_presigned_url("get_object", Params={"Bucket": "private", "Key": "a"})
    assert s3.refusal(guest.get_object, Bucket="private", Key="a") == DENIED, url


def test_a_tenant_has_the_buckets_that_it_made(node, by_name):
    owner, tenant = s3.client(node.s3), by_name["tenant"]
    tenant.create_bucket(Bucket="tenants")
    tenant.put_object(Bucket="tenants", Key="a", Body=b"y")
    tenant.put_bucket_tagging(Bucket="tenants", Tagging={"TagSet": [{"Key": "team", "Value": "red"}]})
    assert [bucket["Name"] for bucket in tenant.list_buckets()["Buckets"]] == ["tenants"]
    for bucket in ["photos", "private"]:
        assert s3.refusal(tenant.get_object, Bucket=bucket, Key="a") == DENIED
        assert s3.refusal(tenant.put_object, Bucket=bucket, Key="b", Body=b"") == DENIED
        assert s3.refusal(tenant.list_objects_v2, Bucket=bucket) == DENIED
        assert s3.refusal(tenant.delete_bucket, Bucket=bucket) == DENIED
    assert s3.refusal(tenant.create_bucket, Bucket="photos") == (409, "BucketAlreadyExists")
    assert s3.refusal(tenant.get_object, Bucket="there-is-none", Key="a") == (404, "NoSuchBucket")
    # Into another one's it is let by that one's policy.
    allowed = {"Action": "s3:GetObject", "Principal": {"AWS": "arn:aws:iam::000000000000:user/tenant"}}
    owner.put_bucket_policy(Bucket="photos", Policy=s3.policy("photos", allowed))
    assert tenant.get_object(Bucket="photos", Key="a")["Body"].read() == b"x"
    owner.delete_bucket_policy(Bucket="photos")
    # Who has all rights has them there, too.
    assert owner.get_object(Bucket="tenants", Key="a")["Body"].read() == b"y"
    tenant.delete_object(Bucket="tenants", Key="a")
    tenant.delete_bucket(Bucket="tenants")


def test_a_policy_gives_a_key_what_its_rights_do_not(node, by_name):
    owner, guest = s3.client(node.s3), by_name["guest"]
    allowed = {"Action": "s3:GetObject", "Principal": {"AWS": "arn:aws:iam::000000000000:user/guest"}}
    owner.put_bucket_policy(Bucket="private", Policy=s3.policy("private", allowed))
    assert guest.get_object(Bucket="private", Key="a")["Body"].read() == b"x"
    assert s3.refusal(guest.list_objects_v2, Bucket="private") == DENIED
    owner.delete_bucket_policy(Bucket="private")
    assert s3.refusal(guest.get_object, Bucket="private", Key="a") == DENIED


def test_who_may_write_does_not_open_what_is_written(by_name):
    writer = by_name["writer"]
    target = {"Bucket": "photos", "Key": "mine"}
    source = {"CopySource": {"Bucket": "photos", "Key": "a"}}
    for call, more in [(writer.put_object, {"Body": b"y"}), (writer.create_multipart_upload, {}), (writer.copy_object, source)]:
        assert s3.refusal(call, ACL="public-read", **target, **more) == DENIED
        assert s3.refusal(call, GrantRead="id=guest", **target, **more) == DENIED
    # A list that grants nothing is what there is without one.
    writer.put_object(ACL="private", Body=b"y", **target)
    assert s3.refusal(writer.put_object_acl, ACL="public-read", **target) == DENIED
    writer.delete_object(**target)


def test_the_list_of_an_object_gives_a_key_what_its_rights_do_not(node, by_name):
    owner, guest = s3.client(node.s3), by_name["guest"]
    target = {"Bucket": "private", "Key": "a"}
    for acl in [{"ACL": "authenticated-read"}, {"GrantRead": "id=guest"}]:
        owner.put_object_acl(**acl, **target)
        assert guest.get_object(**target)["Body"].read() == b"x"
        owner.put_object_acl(ACL="private", **target)
        assert s3.refusal(guest.get_object, **target) == DENIED
