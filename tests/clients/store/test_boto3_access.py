"""Who may do what, by boto3 and by strangers: policies, lists, URLs that carry a right, and forms."""

import base64
import hashlib
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime

import pytest

from harness import checksums, s3
from harness.launch import ACCESS_KEY_ID
from harness.s3 import policy


def _code(answer):
    return answer.status_code, ElementTree.fromstring(answer.content).findtext("Code")


DENIED = (403, "AccessDenied")


@pytest.fixture
def filled(client, bucket):
    for key in ["public/a", "private/b"]:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


class TestPolicies:
    def test_a_stranger_may_do_nothing(self, filled, anonymous):
        for method, path in [
            ("GET", "/"),
            ("GET", f"/{filled}"),
            ("GET", f"/{filled}?list-type=2"),
            ("GET", f"/{filled}/public/a"),
            ("PUT", f"/{filled}/public/a"),
            ("DELETE", f"/{filled}/public/a"),
            ("POST", f"/{filled}/a?uploads"),
            ("GET", f"/{filled}?policy"),
            ("PUT", f"/{filled}-new"),
            # Whether a bucket or a key is there is nothing for strangers.
            ("GET", "/there-is-none/a"),
            ("GET", f"/{filled}/none"),
        ]:
            answer = anonymous.request(method, path)
            assert answer.status_code in (403, 404), (method, path)
            assert _code(answer) in (DENIED, (404, "NoSuchBucket")), (method, path)

    def test_a_policy_lets_strangers_read_what_it_names(self, client, filled, anonymous):
        allowed = {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{filled}/public/*"}
        client.put_bucket_policy(Bucket=filled, Policy=policy(filled, allowed))
        answer = anonymous.get(f"/{filled}/public/a")
        assert (answer.status_code, answer.content) == (200, b"public/a")
        assert anonymous.head(f"/{filled}/public/a").status_code == 200
        assert anonymous.get(f"/{filled}/public/a", headers={"Range": "bytes=0-5"}).content == b"public"
        for method, path in [
            ("GET", f"/{filled}/private/b"),
            ("GET", f"/{filled}"),
            ("PUT", f"/{filled}/public/a"),
            ("DELETE", f"/{filled}/public/a"),
            # Without the right to list, a missing key looks like a forbidden one.
            ("GET", f"/{filled}/public/none"),
            # Who reads without a name may not choose the fields.
            ("GET", f"/{filled}/public/a?response-content-type=text/html"),
        ]:
            refused = _code(anonymous.request(method, path))
            assert refused == DENIED or (path.endswith("html") and refused == (400, "InvalidRequest")), path
        client.delete_bucket_policy(Bucket=filled)
        assert _code(anonymous.get(f"/{filled}/public/a")) == DENIED

    def test_a_policy_lets_strangers_list_and_write(self, client, filled, anonymous):
        whole = f"arn:aws:s3:::{filled}"
        listing = {"Action": "s3:ListBucket", "Resource": whole, "Condition": {"StringEquals": {"s3:prefix": "public/"}}}
        writing = {"Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": f"{whole}/inbox/*"}
        client.put_bucket_policy(Bucket=filled, Policy=policy(filled, listing, writing))
        answer = anonymous.get(f"/{filled}?list-type=2&prefix=public/")
        assert answer.status_code == 200 and b"public/a" in answer.content
        assert _code(anonymous.get(f"/{filled}?list-type=2")) == DENIED
        assert _code(anonymous.get(f"/{filled}?list-type=2&prefix=private/")) == DENIED
        assert anonymous.put(f"/{filled}/inbox/new", content=b"from a stranger").status_code == 200
        assert client.get_object(Bucket=filled, Key="inbox/new")["Body"].read() == b"from a stranger"
        assert _code(anonymous.put(f"/{filled}/outbox/new", content=b"x")) == DENIED
        assert anonymous.delete(f"/{filled}/inbox/new").status_code == 204

    def test_a_denial_outweighs_every_right(self, client, filled):
        denied = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{filled}/private/*"}
        client.put_bucket_policy(Bucket=filled, Policy=policy(filled, denied))
        assert s3.refusal(client.get_object, Bucket=filled, Key="private/b") == DENIED
        assert client.get_object(Bucket=filled, Key="public/a")["Body"].read() == b"public/a"
        # The owner can always mend it.
        client.delete_bucket_policy(Bucket=filled)
        assert client.get_object(Bucket=filled, Key="private/b")["Body"].read() == b"private/b"

    def test_a_block_of_public_access_outweighs_a_public_policy(self, client, filled, anonymous):
        public = policy(filled, {"Action": "s3:GetObject"})
        client.put_bucket_policy(Bucket=filled, Policy=public)
        block = dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True)
        client.put_public_access_block(Bucket=filled, PublicAccessBlockConfiguration=block)
        assert _code(anonymous.get(f"/{filled}/public/a")) == DENIED
        assert client.get_object(Bucket=filled, Key="public/a")["Body"].read() == b"public/a"
        assert s3.refusal(client.put_bucket_policy, Bucket=filled, Policy=public) == DENIED
        assert s3.refusal(client.put_object, Bucket=filled, Key="public/c", Body=b"", ACL="public-read") == DENIED
        client.put_object(Bucket=filled, Key="public/c", Body=b"", ACL="private")
        client.delete_public_access_block(Bucket=filled)
        assert anonymous.get(f"/{filled}/public/a").status_code == 200

    def test_a_policy_may_ask_for_the_tags_that_a_request_brings(self, client, filled):
        denied = {
            "Effect": "Deny",
            "Action": ["s3:PutObject", "s3:PutObjectTagging"],
            "Condition": {"StringEquals": {"s3:RequestObjectTag/team": "red"}},
        }
        client.put_bucket_policy(Bucket=filled, Policy=policy(filled, denied))
        target = {"Bucket": filled, "Key": "tagged"}
        client.put_object(Body=b"", Tagging="team=blue", **target)
        assert s3.refusal(client.put_object, Body=b"", Tagging="team=red", **target) == DENIED
        for team, is_denied in [("blue", False), ("red", True)]:
            tags = {"Tagging": {"TagSet": [{"Key": "team", "Value": team}]}}
            if is_denied:
                assert s3.refusal(client.put_object_tagging, **tags, **target) == DENIED
            else:
                client.put_object_tagging(**tags, **target)


class TestLists:
    def test_the_owner_has_everything(self, client, filled):
        for answer in [client.get_bucket_acl(Bucket=filled), client.get_object_acl(Bucket=filled, Key="public/a")]:
            owner = answer["Owner"]["ID"]
            assert [(g["Grantee"]["ID"], g["Permission"]) for g in answer["Grants"]] == [(owner, "FULL_CONTROL")]

    def test_an_object_may_be_public(self, client, filled, anonymous):
        path = f"/{filled}/public/a"
        assert _code(anonymous.get(path)) == DENIED
        client.put_object_acl(Bucket=filled, Key="public/a", ACL="public-read")
        assert anonymous.get(path).content == b"public/a"
        grants = client.get_object_acl(Bucket=filled, Key="public/a")["Grants"]
        everyone = [grant for grant in grants if grant["Grantee"].get("URI", "").endswith("/global/AllUsers")]
        assert [grant["Permission"] for grant in everyone] == ["READ"]
        assert _code(anonymous.put(path, content=b"x")) == DENIED
        # A list can be taken from one object and given to another.
        found = client.get_object_acl(Bucket=filled, Key="public/a")
        document = {"Owner": found["Owner"], "Grants": found["Grants"]}
        client.put_object_acl(Bucket=filled, Key="private/b", AccessControlPolicy=document)
        assert anonymous.get(f"/{filled}/private/b").content == b"private/b"
        client.put_object_acl(Bucket=filled, Key="public/a", ACL="private")
        assert _code(anonymous.get(path)) == DENIED
        client.put_object(Bucket=filled, Key="born", Body=b"public", ACL="public-read")
        assert anonymous.get(f"/{filled}/born").content == b"public"
        # What replaces it is private again.
        client.put_object(Bucket=filled, Key="born", Body=b"private")
        assert _code(anonymous.get(f"/{filled}/born")) == DENIED

    def test_a_bucket_may_be_listed_and_written_by_everybody(self, client, filled, anonymous):
        client.put_bucket_acl(Bucket=filled, ACL="public-read")
        assert anonymous.get(f"/{filled}").status_code == 200
        assert _code(anonymous.put(f"/{filled}/new", content=b"x")) == DENIED
        # To list names is not to read.
        assert _code(anonymous.get(f"/{filled}/public/a")) == DENIED
        client.put_bucket_acl(Bucket=filled, ACL="public-read-write")
        assert anonymous.put(f"/{filled}/new", content=b"x").status_code == 200
        client.put_bucket_acl(Bucket=filled, ACL="private")
        assert _code(anonymous.get(f"/{filled}")) == DENIED

    def test_who_may_list_a_bucket_is_told_what_is_not_there(self, client, versioned, anonymous):
        missing, of_a_version = f"/{versioned}/none", f"/{versioned}/none?versionId=null"
        client.put_object(Bucket=versioned, Key="a", Body=b"private")
        assert [_code(anonymous.get(path)) for path in [missing, of_a_version]] == [DENIED] * 2
        client.put_bucket_acl(Bucket=versioned, ACL="public-read")
        assert _code(anonymous.get(missing)) == (404, "NoSuchKey")
        assert _code(anonymous.get(of_a_version)) == (404, "NoSuchVersion")
        assert anonymous.head(missing).status_code == 404
        assert _code(anonymous.get(f"/{versioned}/a")) == DENIED
        # A denial of the policy stands, whatever may be listed.
        denied = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{versioned}/no*"}
        client.put_bucket_policy(Bucket=versioned, Policy=policy(versioned, denied))
        assert _code(anonymous.get(missing)) == DENIED

    def test_everybody_is_told_that_there_is_no_such_bucket(self, anonymous):
        for method in ["GET", "PUT", "DELETE"]:
            assert _code(anonymous.request(method, "/there-is-none/a")) == (404, "NoSuchBucket")
        assert _code(anonymous.get("/there-is-none")) == (404, "NoSuchBucket")

    def test_a_list_that_is_none_is_refused(self, client, filled):
        for call in [client.put_object_acl, client.put_bucket_acl]:
            target = {"Bucket": filled} | ({"Key": "public/a"} if call == client.put_object_acl else {})
            assert s3.refusal(call, ACL="everybody", **target) == (400, "InvalidArgument")
        refused = s3.refusal(client.put_object_acl, Bucket=filled, Key="none", ACL="private")
        assert refused == (404, "NoSuchKey")


class TestUrls:
    """What a URL carries is the right to do one thing."""

    def test_each_operation_can_be_signed_into_a_url(self, client, filled, anonymous):
        target = {"Bucket": filled, "Key": "u/ü +"}

        def url(operation, **more):
            return client.generate_presigned_url(operation, Params=target | more, ExpiresIn=60)

        assert anonymous.put(url("put_object"), content=b"by url").status_code == 200
        assert anonymous.get(url("get_object")).content == b"by url"
        assert anonymous.head(url("head_object")).headers["content-length"] == "6"
        typed = url("put_object", ContentType="video/mp4", Metadata={"a": "b"})
        fields = {"Content-Type": "video/mp4", "x-amz-meta-a": "b"}
        assert anonymous.put(typed, content=b"typed", headers=fields).status_code == 200
        assert client.head_object(**target)["Metadata"] == {"a": "b"}
        assert anonymous.put(typed, content=b"typed", headers={"Content-Type": "text/html"}).status_code == 403
        assert anonymous.get(url("get_object_tagging")).status_code == 200
        upload = client.create_multipart_upload(**target)["UploadId"]
        part = anonymous.put(url("upload_part", UploadId=upload, PartNumber=1), content=b"part")
        document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
        finish = url("complete_multipart_upload", UploadId=upload)
        assert anonymous.post(finish, content=f"{document}</CompleteMultipartUpload>").status_code == 200
        assert anonymous.get(url("get_object")).content == b"part"
        assert anonymous.delete(url("delete_object")).status_code == 204
        assert _code(anonymous.get(url("get_object"))) == (404, "NoSuchKey")
        listing = client.generate_presigned_url("list_objects_v2", Params={"Bucket": filled, "Prefix": "public/"})
        assert b"<Key>public/a</Key>" in anonymous.get(listing).content

    def test_a_url_is_good_for_nothing_else(self, client, filled, anonymous):
        url = client.generate_presigned_url("get_object", Params={"Bucket": filled, "Key": "public/a"})
        mismatch = (403, "SignatureDoesNotMatch")
        assert anonymous.head(url).status_code == 403
        assert _code(anonymous.put(url, content=b"x")) == mismatch
        assert _code(anonymous.delete(url)) == mismatch
        assert _code(anonymous.get(url.replace("public/a", "private/b"))) == mismatch
        assert _code(anonymous.get(f"{url}&response-content-type=text/html")) == mismatch
        assert _code(anonymous.get(f"{url}&versionId=null")) == mismatch
        assert _code(anonymous.get(url.replace(f"{ACCESS_KEY_ID}%2F", "stranger%2F"))) == (403, "InvalidAccessKeyId")
        assert _code(anonymous.get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=604801")))[0] in (400, 403)

    def test_a_url_chooses_the_fields_of_the_answer(self, client, filled, anonymous):
        wanted = {
            "ResponseCacheControl": "no-store",
            "ResponseContentDisposition": 'attachment; filename="ü.txt"',
            "ResponseContentType": "text/plain; charset=utf-8",
            "ResponseContentLanguage": "de",
            "ResponseExpires": datetime(2032, 1, 1, tzinfo=UTC),
        }
        ascii_only = wanted | {"ResponseContentDisposition": 'attachment; filename="u.txt"'}
        params = {"Bucket": filled, "Key": "public/a"} | ascii_only
        answer = anonymous.get(client.generate_presigned_url("get_object", Params=params))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-disposition"] == 'attachment; filename="u.txt"'
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-language"] == "de"
        assert answer.headers["expires"] == "Thu, 01 Jan 2032 00:00:00 GMT"

    def test_a_checksum_in_a_url_is_compared(self, client, filled, anonymous):
        right = checksums.text("SHA256", b"right")
        params = {"Bucket": filled, "Key": "summed", "ChecksumSHA256": right}
        url = client.generate_presigned_url("put_object", Params=params)
        fields = {} if "x-amz-checksum-sha256" in url.lower().split("signedheaders")[0] else {"x-amz-checksum-sha256": right}
        assert _code(anonymous.put(url, content=b"wrong", headers=fields)) == (400, "BadDigest")
        assert anonymous.put(url, content=b"right", headers=fields).status_code == 200


class TestForms:
    """What a browser posts."""

    def _form(self, client, bucket, key="forms/${filename}", fields=None, conditions=()):
        fields = fields or {}
        every = [{name: value} for name, value in fields.items()]
        return client.generate_presigned_post(bucket, key, Fields=fields, Conditions=[*every, *conditions])

    def test_a_form_is_stored_with_what_its_fields_say(self, client, bucket, anonymous):
        fields = {"Content-Type": "image/png", "x-amz-meta-from": "browser", "success_action_status": "201"}
        form = self._form(client, bucket, fields=fields, conditions=[["content-length-range", 1, 1000]])
        answer = anonymous.post(form["url"], data=form["fields"], files={"file": ("ü 1.png", b"png")})
        assert answer.status_code == 201, answer.text
        document = ElementTree.fromstring(answer.content)
        told = {name: document.findtext(name) for name in ["Bucket", "Key", "ETag"]}
        assert told == {"Bucket": bucket, "Key": "forms/ü 1.png", "ETag": checksums.etag(b"png")}
        got = client.get_object(Bucket=bucket, Key="forms/ü 1.png")
        assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"png", "image/png", {"from": "browser"})

    def test_the_answer_is_what_the_form_asks_for(self, client, bucket, anonymous):
        for status in ["200", "204"]:
            form = self._form(client, bucket, fields={"success_action_status": status})
            answer = anonymous.post(form["url"], data=form["fields"], files={"file": ("a", b"x")})
            assert (answer.status_code, answer.headers["etag"]) == (int(status), checksums.etag(b"x"))
        form = self._form(client, bucket, fields={"success_action_redirect": "https://app.example/done?x=1"})
        answer = anonymous.post(form["url"], data=form["fields"], files={"file": ("a", b"x")})
        assert answer.status_code == 303
        location = answer.headers["location"]
        assert location.startswith(f"https://app.example/done?x=1&bucket={bucket}&key=forms%2Fa&etag=")

    def test_a_form_carries_tags_a_list_and_a_checksum(self, client, bucket, anonymous):
        tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
        form = self._form(client, bucket, "tagged", fields={"tagging": tagging, "acl": "public-read"})
        answer = anonymous.post(form["url"], data=form["fields"], files={"file": ("a", b"x")})
        assert answer.status_code == 204, answer.text
        assert client.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"] == [{"Key": "a", "Value": "1"}]
        assert anonymous.get(f"/{bucket}/tagged").content == b"x"
        for body, status in [(b"right", 204), (b"wrong", 400)]:
            sum_of = {"x-amz-checksum-crc32": checksums.text("CRC32", b"right")}
            form = self._form(client, bucket, "summed", fields=sum_of)
            answer = anonymous.post(form["url"], data=form["fields"], files={"file": ("a", body)})
            assert answer.status_code == status, answer.text

    def test_a_form_that_nobody_signed_may_what_everybody_may(self, client, bucket, anonymous):
        def post(**more):
            return anonymous.post(f"/{bucket}", data={"key": "forms/${filename}"} | more, files={"file": ("a", b"x")})

        assert _code(post()) == DENIED
        client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
        assert post().status_code == 204
        assert client.get_object(Bucket=bucket, Key="forms/a")["Body"].read() == b"x"
        # One that claims to be somebody's must be.
        for field in ["policy", "signature", "AWSAccessKeyId", "x-amz-credential", "x-amz-signature"]:
            assert post(**{field: "x"}).status_code in (400, 403), field

    def test_a_form_that_breaks_its_policy_is_refused(self, client, bucket, anonymous):
        conditions = [["content-length-range", 2, 10], ["starts-with", "$Content-Type", "image/"]]
        form = self._form(client, bucket, conditions=conditions)
        good = form["fields"] | {"Content-Type": "image/png"}
        policy_of_another = base64.b64encode(
            json.dumps({"expiration": "2099-01-01T00:00:00Z", "conditions": []}).encode()
        ).decode()
        for changed, body, expected in [
            ({}, b"x", (400, "EntityTooSmall")),
            ({}, b"x" * 11, (400, "EntityTooLarge")),
            ({"Content-Type": "text/html"}, b"xx", DENIED),
            ({"key": "elsewhere"}, b"xx", DENIED),
            ({"x-amz-meta-more": "1"}, b"xx", DENIED),
            ({"policy": policy_of_another}, b"xx", (403, "SignatureDoesNotMatch")),
            ({"x-amz-signature": hashlib.sha256(b"").hexdigest()}, b"xx", (403, "SignatureDoesNotMatch")),
        ]:
            answer = anonymous.post(form["url"], data=good | changed, files={"file": ("a", body)})
            assert _code(answer) == expected, changed
        assert "Contents" not in client.list_objects_v2(Bucket=bucket)
        answer = anonymous.post(form["url"], data=good, files={"file": ("a", b"xx")})
        assert answer.status_code == 204
