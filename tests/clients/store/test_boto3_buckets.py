"""Buckets and what is set for them, by boto3: every document comes back as it went."""

import json

import pytest

from harness import s3
from harness.launch import ACCESS_KEY_ID, REGION
from harness.s3 import policy

LIFECYCLE = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
    {
        "ID": "versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 7, "NewerNoncurrentVersions": 3},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    },
    {"ID": "markers", "Status": "Disabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
    {
        "ID": "tagged",
        "Status": "Enabled",
        "Filter": {
            "And": {
                "Prefix": "tmp/",
                "Tags": [{"Key": "keep", "Value": "no"}],
                "ObjectSizeGreaterThan": 10,
                "ObjectSizeLessThan": 10_000,
            }
        },
        "Expiration": {"Days": 1},
    },
    {"ID": "one tag", "Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": ""}}, "Expiration": {"Days": 1}},
]
CORS = [
    {
        "ID": "players",
        "AllowedOrigins": ["https://*.example.com", "http://localhost:3000"],
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "x-amz-version-id"],
        "MaxAgeSeconds": 600,
    },
    {"AllowedOrigins": ["*"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["content-type", "x-amz-*"]},
]
ACCESS_BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": False,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": False,
}


def test_a_bucket_is_made_found_and_removed(either, new_bucket):
    name = new_bucket()
    head = either.head_bucket(Bucket=name)
    assert head["BucketRegion"] == REGION
    # The region us-east-1 has no name in this document, as S3 has it.
    assert either.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert name in [found["Name"] for found in either.list_buckets()["Buckets"]]
    # In us-east-1 it may be made again, as long as that changes nothing.
    either.create_bucket(Bucket=name)
    other = {"Bucket": name, "ACL": "public-read"}
    assert s3.refusal(either.create_bucket, **other) == (409, "BucketAlreadyOwnedByYou")
    either.put_object(Bucket=name, Key="a", Body=b"")
    assert s3.refusal(either.delete_bucket, Bucket=name) == (409, "BucketNotEmpty")
    either.delete_object(Bucket=name, Key="a")
    either.delete_bucket(Bucket=name)
    assert s3.refusal(either.delete_bucket, Bucket=name) == (404, "NoSuchBucket")
    assert s3.refusal(either.head_bucket, Bucket=name) == (404, "404")
    assert name not in [found["Name"] for found in either.list_buckets()["Buckets"]]


def test_a_bucket_that_is_made_again_has_nothing_of_the_old_one(client, new_bucket):
    name = new_bucket()
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    client.put_bucket_policy(Bucket=name, Policy=policy(name, {"Action": "s3:GetObject"}))
    client.delete_bucket(Bucket=name)
    client.create_bucket(Bucket=name)
    assert "Status" not in client.get_bucket_versioning(Bucket=name)
    assert s3.refusal(client.get_bucket_tagging, Bucket=name) == (404, "NoSuchTagSet")
    assert s3.refusal(client.get_bucket_policy, Bucket=name) == (404, "NoSuchBucketPolicy")


def test_the_owner_that_a_client_expects_is_compared(client, bucket):
    """Ours are named by their access keys, where AWS has numbers of accounts."""
    client.put_object(Bucket=bucket, Key="a", Body=b"x")
    for owner, refused in [(ACCESS_KEY_ID, False), ("somebody-else", True)]:
        for call in [
            lambda **more: client.head_object(Bucket=bucket, Key="a", **more),
            lambda **more: client.put_object(Bucket=bucket, Key="a", Body=b"x", **more),
            lambda **more: client.list_objects_v2(Bucket=bucket, **more),
            lambda **more: client.get_bucket_acl(Bucket=bucket, **more),
        ]:
            if refused:
                assert s3.refusal(call, ExpectedBucketOwner=owner)[0] == 403
            else:
                call(ExpectedBucketOwner=owner)
        copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "a"}}
        if refused:
            assert s3.refusal(client.copy_object, ExpectedSourceBucketOwner=owner, **copy) == (403, "AccessDenied")
        else:
            client.copy_object(ExpectedSourceBucketOwner=owner, **copy)


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Upper", "under_score", "-dash", "dash-", "two..dots", "192.168.1.1", "xn--abc", "abc-s3alias"],
)
def test_a_name_that_breaks_a_rule_is_refused(client, name):
    assert s3.refusal(client.create_bucket, Bucket=name) == (400, "InvalidBucketName")


def test_another_region_is_refused(client):
    there = {"LocationConstraint": "eu-west-1"}
    refused = s3.refusal(client.create_bucket, Bucket="elsewhere", CreateBucketConfiguration=there)
    assert refused == (400, "IllegalLocationConstraintException")


def test_buckets_are_listed_with_every_size_of_a_page(client):
    names = [f"paged-{number:02}" for number in range(7)]
    for name in names:
        client.create_bucket(Bucket=name)
    for size in range(1, len(names) + 2):
        found, more = [], {}
        while True:
            page = client.list_buckets(Prefix="paged-", MaxBuckets=size, **more)
            assert len(page["Buckets"]) <= size
            assert page["Prefix"] == "paged-" and page["Owner"]["ID"]
            found += [bucket["Name"] for bucket in page["Buckets"]]
            if "ContinuationToken" not in page:
                break
            more = {"ContinuationToken": page["ContinuationToken"]}
        assert found == names
    everything = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    assert everything == sorted(everything) and set(names) <= set(everything)
    assert client.list_buckets(BucketRegion="eu-west-1")["Buckets"] == []
    here = client.list_buckets(BucketRegion=REGION, Prefix="paged-")["Buckets"]
    assert [bucket["Name"] for bucket in here] == names


MISSING = {
    "delete_bucket": {},
    "get_bucket_location": {},
    "get_bucket_versioning": {},
    "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
    "get_bucket_acl": {},
    "put_bucket_acl": {"ACL": "private"},
    "get_bucket_cors": {},
    "put_bucket_cors": {"CORSConfiguration": {"CORSRules": CORS}},
    "delete_bucket_cors": {},
    "get_bucket_lifecycle_configuration": {},
    "put_bucket_lifecycle_configuration": {"LifecycleConfiguration": {"Rules": LIFECYCLE}},
    "delete_bucket_lifecycle": {},
    "get_bucket_policy": {},
    "put_bucket_policy": {"Policy": policy("there-is-none", {"Action": "s3:GetObject"})},
    "delete_bucket_policy": {},
    "get_bucket_policy_status": {},
    "get_bucket_tagging": {},
    "put_bucket_tagging": {"Tagging": {"TagSet": []}},
    "delete_bucket_tagging": {},
    "get_public_access_block": {},
    "put_public_access_block": {"PublicAccessBlockConfiguration": ACCESS_BLOCK},
    "delete_public_access_block": {},
    "list_objects": {},
    "list_objects_v2": {},
    "list_object_versions": {},
    "list_multipart_uploads": {},
    "put_object": {"Key": "a", "Body": b"x"},
    "get_object": {"Key": "a"},
    "delete_object": {"Key": "a"},
    "delete_objects": {"Delete": {"Objects": [{"Key": "a"}]}},
    "get_object_acl": {"Key": "a"},
    "get_object_attributes": {"Key": "a", "ObjectAttributes": ["ETag"]},
    "get_object_tagging": {"Key": "a"},
    "put_object_tagging": {"Key": "a", "Tagging": {"TagSet": []}},
    "create_multipart_upload": {"Key": "a"},
}


@pytest.mark.parametrize("name", MISSING)
def test_every_operation_on_a_bucket_that_is_not_there_says_so(client, name):
    refused = s3.refusal(getattr(client, name), Bucket="there-is-none", **MISSING[name])
    assert refused == (404, "NoSuchBucket")


UNSET = {
    "get_bucket_tagging": "NoSuchTagSet",
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_policy_status": "NoSuchBucketPolicy",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_public_access_block": "NoSuchPublicAccessBlockConfiguration",
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
}


@pytest.mark.parametrize("name", UNSET)
def test_what_was_never_set_is_not_found(client, bucket, name):
    assert s3.refusal(getattr(client, name), Bucket=bucket) == (404, UNSET[name])


@pytest.mark.parametrize("name", ["delete_bucket_tagging", "delete_bucket_policy", "delete_bucket_cors",
                                  "delete_bucket_lifecycle", "delete_public_access_block"])  # fmt: skip
def test_to_remove_what_was_never_set_is_no_error(client, bucket, name):
    assert getattr(client, name)(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_tags_of_a_bucket_are_set_replaced_and_removed(either, bucket):
    for tags in [
        [{"Key": "colour", "Value": "red + blue"}],
        [{"Key": f"k{number:02}", "Value": "ü" * 10} for number in range(50)],
    ]:
        either.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
        assert either.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    for wrong in [
        [{"Key": f"k{number:02}", "Value": ""} for number in range(51)],
        [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}],
        [{"Key": "aws:reserved", "Value": ""}],
    ]:
        assert s3.refusal(either.put_bucket_tagging, Bucket=bucket, Tagging={"TagSet": wrong})[0] == 400
    assert either.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    either.delete_bucket_tagging(Bucket=bucket)
    assert s3.refusal(either.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")


def test_a_lifecycle_comes_back_as_it_went(either, bucket):
    either.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": LIFECYCLE})
    assert either.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == LIFECYCLE
    # A rule that comes without an id is given one.
    nameless = [{key: value for key, value in rule.items() if key != "ID"} for rule in LIFECYCLE]
    either.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": nameless})
    named = either.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert len({rule.pop("ID") for rule in named}) == len(LIFECYCLE) and named == nameless
    either.delete_bucket_lifecycle(Bucket=bucket)
    refused = s3.refusal(either.get_bucket_lifecycle_configuration, Bucket=bucket)
    assert refused == (404, "NoSuchLifecycleConfiguration")


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 0}}],
        [{"Status": "Enabled", "Filter": {}}],
        [{"Status": "Sometimes", "Filter": {}, "Expiration": {"Days": 1}}],
        [{"ID": "twice", "Status": "Enabled", "Filter": {"Prefix": p}, "Expiration": {"Days": 1}} for p in "ab"],
        [{"ID": "x" * 256, "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}],
        [{"Status": "Enabled", "Filter": {"Prefix": str(n)}, "Expiration": {"Days": 1}} for n in range(1001)],
    ],
    ids=["none", "zero days", "no action", "status", "id twice", "long id", "1001 rules"],
)
def test_a_lifecycle_that_breaks_a_rule_is_refused(client, bucket, rules):
    call = {"Bucket": bucket, "LifecycleConfiguration": {"Rules": rules}}
    status, code = s3.refusal(client.put_bucket_lifecycle_configuration, **call)
    assert status == 400 and code in ("MalformedXML", "InvalidArgument", "InvalidRequest")


def test_an_object_that_will_expire_says_when(client, bucket):
    rule = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    client.put_object(Bucket=bucket, Key="logs/a", Body=b"x")
    client.put_object(Bucket=bucket, Key="kept", Body=b"x")
    for read in [client.get_object, client.head_object]:
        told = read(Bucket=bucket, Key="logs/a")["Expiration"]
        assert 'rule-id="logs"' in told and "00:00:00 GMT" in told
        assert "Expiration" not in read(Bucket=bucket, Key="kept")


def test_cors_rules_come_back_as_they_went(either, bucket):
    either.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": CORS})
    assert either.get_bucket_cors(Bucket=bucket)["CORSRules"] == CORS
    either.delete_bucket_cors(Bucket=bucket)
    assert s3.refusal(either.get_bucket_cors, Bucket=bucket) == (404, "NoSuchCORSConfiguration")


def test_a_browser_is_answered_by_the_cors_rules(client, bucket, anonymous):
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": CORS})

    def ask(origin, method, headers=None):
        fields = {"Origin": origin, "Access-Control-Request-Method": method}
        if headers:
            fields["Access-Control-Request-Headers"] = headers
        return anonymous.options(f"/{bucket}/a", headers=fields)

    answer = ask("https://player.example.com", "GET", "range, x-any")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://player.example.com"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["access-control-allow-headers"].lower() == "range, x-any"
    assert answer.headers["access-control-expose-headers"] == "ETag, x-amz-version-id"
    assert answer.headers["access-control-max-age"] == "600"
    assert "origin" in answer.headers["vary"].lower()
    answer = ask("https://elsewhere.example", "PUT", "Content-Type,X-Amz-Date")
    assert answer.headers["access-control-allow-origin"] == "*"
    for origin, method, headers in [
        ("https://elsewhere.example", "GET", None),
        ("https://elsewhere.example", "DELETE", None),
        ("https://elsewhere.example", "PUT", "authorization"),
    ]:
        assert ask(origin, method, headers).status_code == 403, (origin, method, headers)
    # A request that is not a question gets the fields too, whatever its answer is.
    client.put_object(Bucket=bucket, Key="a", Body=b"x")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
    for target, status in [(url, 200), (f"/{bucket}/a", 403)]:
        answer = anonymous.get(target, headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.headers["access-control-expose-headers"] == "ETag, x-amz-version-id"
        assert "access-control-allow-origin" not in anonymous.get(target, headers={"Origin": "http://x"}).headers
    client.delete_bucket_cors(Bucket=bucket)
    assert ask("https://player.example.com", "GET").status_code == 403


@pytest.mark.parametrize(
    "rules",
    [
        [{"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}],
        [{"AllowedOrigins": ["https://*.*"], "AllowedMethods": ["GET"]}],
        [{"AllowedOrigins": [], "AllowedMethods": ["GET"]}],
        [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}] * 101,
    ],
    ids=["method", "two stars", "no origin", "101 rules"],
)
def test_cors_rules_that_break_a_rule_are_refused(client, bucket, rules):
    status, _ = s3.refusal(client.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert status == 400
    assert s3.refusal(client.get_bucket_cors, Bucket=bucket) == (404, "NoSuchCORSConfiguration")


def test_a_policy_comes_back_byte_by_byte(either, bucket):
    text = policy(bucket, {"Sid": "read  all ", "Action": ["s3:GetObject"]})
    either.put_bucket_policy(Bucket=bucket, Policy=text)
    assert either.get_bucket_policy(Bucket=bucket)["Policy"] == text
    assert either.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}
    either.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, {"Effect": "Deny", "Action": "s3:DeleteObject"}))
    assert either.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": False}
    either.delete_bucket_policy(Bucket=bucket)
    assert s3.refusal(either.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")


@pytest.mark.parametrize(
    "make",
    [
        lambda bucket: "{",
        lambda bucket: "[]",
        lambda bucket: json.dumps({"Version": "2012-10-17"}),
        lambda bucket: policy(bucket, {"Effect": "Maybe", "Action": "s3:GetObject"}),
        lambda bucket: policy(bucket, {"Action": "s3:MakeCoffee"}),
        lambda bucket: policy(bucket, {"Action": "s3:GetObject"}).replace('"Principal"', '"NotPrincipal"'),
        lambda bucket: policy(bucket, {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::another-bucket/*"}),
        lambda bucket: policy(bucket, {"Action": "s3:GetObject", "Condition": {"NoSuchTest": {"a": "b"}}}),
        lambda bucket: policy(bucket, {"Action": "s3:GetObject", "Sid": "x" * 20_500}),
    ],
    ids=["JSON", "a list", "no statement", "effect", "action", "everybody but", "another bucket", "condition", "20 KiB"],
)
def test_a_malformed_policy_is_refused(client, bucket, make):
    status, code = s3.refusal(client.put_bucket_policy, Bucket=bucket, Policy=make(bucket))
    assert status == 400 and code in ("MalformedPolicy", "InvalidPolicyDocument", "PolicyTooLarge")
    assert s3.refusal(client.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")


def test_the_block_of_public_access_comes_back_as_it_went(either, bucket):
    either.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=ACCESS_BLOCK)
    assert either.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == ACCESS_BLOCK
    either.delete_public_access_block(Bucket=bucket)
    refused = s3.refusal(either.get_public_access_block, Bucket=bucket)
    assert refused == (404, "NoSuchPublicAccessBlockConfiguration")


@pytest.mark.parametrize("ownership", ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"])
def test_ownership_controls_come_back_as_they_went(client, bucket, ownership):
    controls = {"Rules": [{"ObjectOwnership": ownership}]}
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls)
    assert client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == controls
    client.delete_bucket_ownership_controls(Bucket=bucket)
    refused = s3.refusal(client.get_bucket_ownership_controls, Bucket=bucket)
    assert refused == (404, "OwnershipControlsNotFoundError")
