"""Versions that nobody deletes before their time, by boto3: retentions, legal holds, and who may bypass them."""

from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest

from harness import raw, s3, sigv4
from harness.s3 import policy

DENIED = (403, "AccessDenied")
UNSET = (404, "NoSuchObjectLockConfiguration")
NAMES = ["ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"]
NOTHING = (None, None, None)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
GUEST = {"access_key_id": "guest", "secret": "reads-until-a-policy-says-more", "rights": "read-only"}


def _ahead(**span):
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**span)


TOMORROW, NEXT_WEEK = _ahead(days=1), _ahead(days=7)
BYPASS = {"BypassGovernanceRetention": True}
HELD = {"ObjectLockLegalHoldStatus": "ON"}
GOVERNED = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": TOMORROW}


@pytest.fixture(scope="module")
def node(module_launch):
    return module_launch.store(credentials=[GUEST])


@pytest.fixture(scope="module")
def client(node):
    return s3.client(node.s3)


@pytest.fixture(scope="module")
def guest(node):
    return s3.client(node.s3, access_key_id=GUEST["access_key_id"], secret=GUEST["secret"])


@pytest.fixture
def locked(new_bucket):
    """An empty bucket with locks."""
    return new_bucket(ObjectLockEnabledForBucket=True)


def _put(client, bucket, **lock):
    return client.put_object(Bucket=bucket, Key="a", Body=b"x", **lock)["VersionId"]


def _lock(client, bucket, key="a", **version):
    """Mode, date and hold of a version, of which HEAD and GET say the same."""
    answers = [read(Bucket=bucket, Key=key, **version) for read in [client.head_object, client.get_object]]
    head, got = (tuple(answer.get(name) for name in NAMES) for answer in answers)
    assert head == got
    return head


def _retain(client, bucket, mode, until, **more):
    """Sets the retention of the object `a`."""
    retention = {"Mode": mode, "RetainUntilDate": until} if mode else {}
    return client.put_object_retention(Bucket=bucket, Key="a", Retention=retention, **more)


def _configure(client, bucket, **retention):
    rule = {"Rule": {"DefaultRetention": retention}} if retention else {}
    configuration = {"ObjectLockEnabled": "Enabled"} | rule
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration


def _writes(client, bucket):
    """What can write the object `a`, each without fields of a lock."""
    client.put_object(Bucket=bucket, Key="source", Body=b"x")
    target = {"Bucket": bucket, "Key": "a"}
    yield partial(client.put_object, Body=b"x", **target)
    yield partial(client.copy_object, CopySource=target | {"Key": "source"}, **target)
    yield partial(client.create_multipart_upload, **target)


def _upload(client, bucket, **lock):
    target = {"Bucket": bucket, "Key": "a"}
    upload = target | {"UploadId": client.create_multipart_upload(**target, **lock)["UploadId"]}
    part = {"PartNumber": 1, "ETag": client.upload_part(PartNumber=1, Body=b"x", **upload)["ETag"]}
    client.complete_multipart_upload(MultipartUpload={"Parts": [part]}, **upload)


def _post(client, bucket, **fields):
    """The answer to a form that writes the object `a`."""
    fields = {f"x-amz-object-lock-{name.replace('_', '-')}": value for name, value in fields.items()}
    form = client.generate_presigned_post(bucket, "a", Fields=fields, Conditions=[{n: v} for n, v in fields.items()])
    return httpx.post(form["url"], data=form["fields"], files={"file": ("a", b"x")})


def _set_policy(client, bucket, *actions, effect="Allow", who="arn:aws:iam::000000000000:user/guest", **condition):
    statement = {"Effect": effect, "Principal": {"AWS": who}, "Action": list(actions)}
    if condition:
        statement["Condition"] = condition
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, statement))


class TestBuckets:
    def test_a_bucket_that_is_made_with_locks_keeps_them_and_its_versions(self, node, client, locked):
        suspended = {"VersioningConfiguration": {"Status": "Suspended"}}
        assert s3.refusal(client.put_bucket_versioning, Bucket=locked, **suspended) == (409, "InvalidBucketState")
        (answer,) = raw.Connection(node.s3).exchange([sigv4.request("DELETE", f"/{locked}?object-lock", node.s3)])
        assert answer.status == 405 and b"<Code>MethodNotAllowed</Code>" in answer.body
        found = client.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
        assert found == {"ObjectLockEnabled": "Enabled"}
        assert client.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"

    def test_a_bucket_without_locks_takes_none(self, client, versioned):
        missing = (404, "ObjectLockConfigurationNotFoundError")
        assert s3.refusal(client.get_object_lock_configuration, Bucket=versioned) == missing
        refused = (400, "InvalidRequest")
        for write in _writes(client, versioned):
            for lock in [GOVERNED, HELD]:
                assert s3.refusal(write, **lock) == refused, (write, lock)
        assert _post(client, versioned, legal_hold="ON").status_code == 400
        _put(client, versioned)
        target = {"Bucket": versioned, "Key": "a"}
        assert s3.refusal(_retain, client, versioned, "GOVERNANCE", TOMORROW) == refused
        assert s3.refusal(client.put_object_legal_hold, LegalHold={"Status": "ON"}, **target) == refused
        for read in [client.get_object_retention, client.get_object_legal_hold]:
            assert s3.refusal(read, **target) == refused
        assert _lock(client, versioned) == NOTHING

    def test_a_bucket_can_be_given_locks_as_long_as_it_has_versions(self, client, bucket):
        assert s3.refusal(_configure, client, bucket) == (409, "InvalidBucketState")
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        assert s3.refusal(_configure, client, bucket) == (409, "InvalidBucketState")
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        _configure(client, bucket)
        _put(client, bucket, **GOVERNED)
        assert _lock(client, bucket) == ("GOVERNANCE", TOMORROW, None)

    def test_a_default_retention_is_of_some_days_or_of_some_years(self, client, locked):
        for period in [{"Days": 1}, {"Days": 36_500}, {"Years": 1}, {"Years": 100}]:
            _configure(client, locked, Mode="GOVERNANCE", **period)
            _configure(client, locked, Mode="COMPLIANCE", **period)
        _configure(client, locked)
        for period in [{"Days": 0}, {"Days": -1}, {"Days": 36_501}, {"Years": 0}, {"Years": 101}]:
            assert s3.refusal(_configure, client, locked, Mode="GOVERNANCE", **period) == (400, "InvalidArgument"), period
        malformed = (400, "MalformedXML")
        for mode, period in [("GOVERNANCE", {}), ("GOVERNANCE", {"Days": 1, "Years": 1}), ("governance", {"Days": 1})]:
            assert s3.refusal(_configure, client, locked, Mode=mode, **period) == malformed, (mode, period)
        off = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Disabled"}}
        assert s3.refusal(client.put_object_lock_configuration, Bucket=locked, **off) == malformed
        assert "Rule" not in client.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]

    def test_new_versions_have_the_default_retention_unless_they_bring_their_own(self, client, locked):
        first = _put(client, locked)
        _configure(client, locked, Mode="GOVERNANCE", Days=2)
        put, copy, _ = _writes(client, locked)
        for write in [put, copy, partial(_upload, client, locked), lambda: _post(client, locked).raise_for_status()]:
            write()
            mode, until, _ = _lock(client, locked)
            assert mode == "GOVERNANCE"
            assert abs(until - _ahead(days=2)) < timedelta(minutes=1)
        assert _lock(client, locked, VersionId=first) == NOTHING
        _configure(client, locked, Mode="GOVERNANCE", Years=1)
        _put(client, locked)
        assert timedelta(days=364) < _lock(client, locked)[1] - _ahead() < timedelta(days=367)
        _put(client, locked, **GOVERNED)
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, None)


class TestWrites:
    def test_an_object_is_locked_by_what_writes_it(self, client, locked):
        put, copy, _ = _writes(client, locked)
        compliance = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": _ahead(minutes=2)}
        for write in [put, copy, partial(_upload, client, locked)]:
            for lock in [GOVERNED, HELD, compliance | HELD]:
                write(**lock)
                assert _lock(client, locked) == tuple(lock.get(name) for name in NAMES)
        fields = {"mode": "GOVERNANCE", "retain_until_date": f"{TOMORROW:%Y-%m-%dT%H:%M:%SZ}", "legal_hold": "ON"}
        answer = _post(client, locked, **fields)
        assert answer.status_code == 204, answer.text
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, "ON")

    def test_a_lock_that_breaks_a_rule_is_refused(self, client, locked):
        halves = [{"ObjectLockMode": "GOVERNANCE"}, {"ObjectLockRetainUntilDate": TOMORROW}]
        odd = [GOVERNED | {"ObjectLockRetainUntilDate": LONG_AGO}, GOVERNED | {"ObjectLockMode": "FOREVER"}]
        for lock in [*halves, *odd, {"ObjectLockLegalHoldStatus": "MAYBE"}]:
            for write in _writes(client, locked):
                assert s3.refusal(write, **lock) == (400, "InvalidArgument"), (write, lock)
        assert s3.refusal(client.head_object, Bucket=locked, Key="a") == (404, "404")

    def test_a_copy_does_not_have_the_lock_of_its_source(self, client, locked):
        first = _put(client, locked, **GOVERNED, **HELD)
        client.copy_object(Bucket=locked, Key="b", CopySource={"Bucket": locked, "Key": "a", "VersionId": first})
        assert _lock(client, locked, "b") == NOTHING
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, "ON")

    def test_nothing_grows_in_a_bucket_with_locks(self, client, locked):
        refused = s3.refusal(client.put_object, Bucket=locked, Key="a", Body=b"x", WriteOffsetBytes=0)
        assert refused == (400, "InvalidRequest")


class TestRetention:
    def test_a_version_has_a_retention_of_its_own(self, client, locked):
        first, second = _put(client, locked), _put(client, locked)
        target = {"Bucket": locked, "Key": "a"}
        assert s3.refusal(client.get_object_retention, **target) == UNSET
        _retain(client, locked, "GOVERNANCE", TOMORROW, VersionId=first)
        assert s3.refusal(client.get_object_retention, VersionId=second, **target) == UNSET
        found = client.get_object_retention(VersionId=first, **target)["Retention"]
        assert found == {"Mode": "GOVERNANCE", "RetainUntilDate": TOMORROW}
        assert _lock(client, locked, VersionId=first) == ("GOVERNANCE", TOMORROW, None)
        assert _lock(client, locked) == NOTHING
        # The date is told with milliseconds.
        fields = client.head_object(VersionId=first, **target)["ResponseMetadata"]["HTTPHeaders"]
        assert fields["x-amz-object-lock-retain-until-date"] == f"{TOMORROW:%Y-%m-%dT%H:%M:%S}.000Z"

    def test_governance_gives_way_to_who_bypasses_it(self, client, locked):
        _put(client, locked, **GOVERNED)
        _retain(client, locked, "GOVERNANCE", NEXT_WEEK)
        for mode, until in [("GOVERNANCE", TOMORROW), ("COMPLIANCE", NEXT_WEEK), (None, None)]:
            assert s3.refusal(_retain, client, locked, mode, until) == DENIED, mode
        assert _lock(client, locked) == ("GOVERNANCE", NEXT_WEEK, None)
        _retain(client, locked, "GOVERNANCE", TOMORROW, **BYPASS)
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, None)
        _retain(client, locked, None, None, **BYPASS)
        assert _lock(client, locked) == NOTHING
        assert s3.refusal(client.get_object_retention, Bucket=locked, Key="a") == UNSET
        # What is not retained can be retained in any way.
        soon = _ahead(minutes=2)
        _retain(client, locked, "GOVERNANCE", TOMORROW)
        _retain(client, locked, "COMPLIANCE", soon, **BYPASS)
        assert _lock(client, locked) == ("COMPLIANCE", soon, None)

    def test_compliance_can_only_be_extended(self, client, locked):
        soon, later = _ahead(minutes=2), _ahead(minutes=3)
        version = _put(client, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon)
        _retain(client, locked, "COMPLIANCE", later)
        for bypass in [{}, BYPASS]:
            for mode, until in [("COMPLIANCE", soon), ("GOVERNANCE", TOMORROW), (None, None)]:
                assert s3.refusal(_retain, client, locked, mode, until, **bypass) == DENIED, (mode, bypass)
            deletion = {"Bucket": locked, "Key": "a", "VersionId": version} | bypass
            assert s3.refusal(client.delete_object, **deletion) == DENIED, bypass
        assert _lock(client, locked) == ("COMPLIANCE", later, None)

    def test_a_retention_that_breaks_a_rule_is_refused(self, client, locked):
        _put(client, locked)
        for mode in ["GOVERNANCE", "COMPLIANCE"]:
            assert s3.refusal(_retain, client, locked, mode, LONG_AGO) == (400, "InvalidArgument")
        assert s3.refusal(_retain, client, locked, "governance", TOMORROW) == (400, "MalformedXML")
        assert s3.refusal(client.get_object_retention, Bucket=locked, Key="a") == UNSET


def test_a_legal_hold_lasts_until_it_is_lifted(client, locked):
    version = _put(client, locked)
    target = {"Bucket": locked, "Key": "a"}
    assert s3.refusal(client.get_object_legal_hold, **target) == UNSET
    assert s3.refusal(client.put_object_legal_hold, LegalHold={"Status": "MAYBE"}, **target) == (400, "MalformedXML")
    for status in ["ON", "OFF", "ON"]:
        client.put_object_legal_hold(LegalHold={"Status": status}, VersionId=version, **target)
        assert client.get_object_legal_hold(**target)["LegalHold"] == {"Status": status}
    assert _lock(client, locked) == (None, None, "ON")
    for bypass in [{}, BYPASS]:
        assert s3.refusal(client.delete_object, VersionId=version, **target, **bypass) == DENIED
    client.put_object_legal_hold(LegalHold={"Status": "OFF"}, **target)
    client.delete_object(VersionId=version, **target)
    assert s3.refusal(client.head_object, VersionId=version, **target) == (404, "404")


class TestDeletions:
    def test_a_locked_version_stays_below_what_is_written_over_it(self, client, locked):
        first = _put(client, locked, **GOVERNED)
        target = {"Bucket": locked, "Key": "a"}
        _put(client, locked)
        marker = client.delete_object(**target)
        assert marker["DeleteMarker"] is True
        assert s3.refusal(client.delete_object, VersionId=first, **target) == DENIED
        assert client.get_object(VersionId=first, **target)["Body"].read() == b"x"
        # Nothing locks a marker.
        client.delete_object(VersionId=marker["VersionId"], **target)
        assert client.get_object(**target)["Body"].read() == b"x"
        client.delete_object(VersionId=first, **BYPASS, **target)
        assert s3.refusal(client.head_object, VersionId=first, **target) == (404, "404")

    def test_of_many_that_are_deleted_at_once_the_locked_ones_stay(self, client, locked):
        free, governed, held = _put(client, locked), _put(client, locked, **GOVERNED), _put(client, locked, **HELD)
        for bypass, gone, left in [({}, {free}, {governed, held}), (BYPASS, {governed}, {held})]:
            listed = [{"Key": "a", "VersionId": version} for version in gone | left]
            answer = client.delete_objects(Bucket=locked, Delete={"Objects": listed}, **bypass)
            assert {found["VersionId"] for found in answer["Deleted"]} == gone
            refused = {(found["Key"], found["VersionId"], found["Code"]) for found in answer["Errors"]}
            assert refused == {("a", version, "AccessDenied") for version in left}
        (version,) = client.list_object_versions(Bucket=locked)["Versions"]
        assert version["VersionId"] == held

    def test_a_lifecycle_leaves_a_locked_version_under_its_marker(self, node, client, locked):
        version = _put(client, locked, **GOVERNED)
        rule = {"ID": "old", "Status": "Enabled", "Filter": {}, "Expiration": {"Date": LONG_AGO}}
        client.put_bucket_lifecycle_configuration(Bucket=locked, LifecycleConfiguration={"Rules": [rule]})
        answer = httpx.post(f"http://{node.admin}/origin/jobs", json={"run": "lifecycle"}, timeout=60)
        assert answer.status_code == 200
        assert s3.refusal(client.get_object, Bucket=locked, Key="a") == (404, "NoSuchKey")
        assert _lock(client, locked, VersionId=version) == ("GOVERNANCE", TOMORROW, None)


class TestRights:
    def test_who_may_write_needs_more_to_lock(self, client, guest, locked):
        for lock, right in [(GOVERNED, "s3:PutObjectRetention"), (HELD, "s3:PutObjectLegalHold")]:
            _set_policy(client, locked, "s3:PutObject")
            for write in _writes(guest, locked):
                write()
                assert s3.refusal(write, **lock) == DENIED, (write, right)
            _set_policy(client, locked, "s3:PutObject", right)
            for write in _writes(guest, locked):
                write(**lock)
            _set_policy(client, locked, right, effect="Deny", who="*")
            assert s3.refusal(_put, client, locked, **lock) == DENIED
            _put(client, locked)
        hold = {"Bucket": locked, "Key": "a", "LegalHold": {"Status": "ON"}}
        _set_policy(client, locked, "s3:PutObject")
        assert s3.refusal(_retain, guest, locked, "GOVERNANCE", TOMORROW) == DENIED
        assert s3.refusal(guest.put_object_legal_hold, **hold) == DENIED
        _set_policy(client, locked, "s3:PutObjectRetention", "s3:PutObjectLegalHold")
        _retain(guest, locked, "GOVERNANCE", TOMORROW)
        guest.put_object_legal_hold(**hold)
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, "ON")

    @pytest.mark.parametrize(
        "condition",
        [
            {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "6"}},
            {"DateGreaterThan": {"s3:object-lock-retain-until-date": TOMORROW.isoformat()}},
        ],
        ids=["days", "date"],
    )
    def test_a_policy_says_for_how_long_versions_may_be_retained(self, client, locked, condition):
        _set_policy(client, locked, "s3:PutObjectRetention", effect="Deny", who="*", **condition)
        for write in [*_writes(client, locked), partial(_put, client, locked)]:
            write(**GOVERNED)
            assert s3.refusal(write, **GOVERNED | {"ObjectLockRetainUntilDate": NEXT_WEEK}) == DENIED, write
        form = {"mode": "GOVERNANCE", "retain_until_date": NEXT_WEEK.isoformat()}
        assert _post(client, locked, **form).status_code == 403
        assert _post(client, locked, **form | {"retain_until_date": TOMORROW.isoformat()}).status_code == 204
        _retain(client, locked, "GOVERNANCE", TOMORROW)
        assert s3.refusal(_retain, client, locked, "GOVERNANCE", NEXT_WEEK) == DENIED
        # Nothing is said of what brings no retention.
        _put(client, locked)

    def test_a_policy_says_how_firmly_and_who_ends_a_hold(self, client, guest, locked):
        mode = {"StringEquals": {"s3:object-lock-mode": "GOVERNANCE"}}
        _put(client, locked)
        _set_policy(client, locked, "s3:PutObjectRetention", **mode)
        assert s3.refusal(_retain, guest, locked, "COMPLIANCE", TOMORROW) == DENIED
        _retain(guest, locked, "GOVERNANCE", TOMORROW)
        off = {"StringEquals": {"s3:object-lock-legal-hold": "OFF"}}
        _set_policy(client, locked, "s3:PutObjectLegalHold", effect="Deny", who="*", **off)
        target = {"Bucket": locked, "Key": "a"}
        client.put_object_legal_hold(LegalHold={"Status": "ON"}, **target)
        assert s3.refusal(client.put_object_legal_hold, LegalHold={"Status": "OFF"}, **target) == DENIED
        assert _lock(client, locked) == ("GOVERNANCE", TOMORROW, "ON")

    def test_to_bypass_a_retention_is_a_right_of_its_own(self, client, guest, locked):
        deletion = {"Bucket": locked, "Key": "a", "VersionId": _put(client, locked, **GOVERNED)}
        rights = ["s3:PutObjectRetention", "s3:DeleteObjectVersion"]
        _set_policy(client, locked, *rights)
        _retain(guest, locked, "GOVERNANCE", NEXT_WEEK)
        assert s3.refusal(_retain, guest, locked, "GOVERNANCE", TOMORROW, **BYPASS) == DENIED
        assert s3.refusal(guest.delete_object, **deletion, **BYPASS) == DENIED
        _set_policy(client, locked, "s3:BypassGovernanceRetention", effect="Deny", who="*")
        assert s3.refusal(client.delete_object, **deletion, **BYPASS) == DENIED
        _set_policy(client, locked, *rights, "s3:BypassGovernanceRetention")
        # Who has the right must say that it is meant.
        assert s3.refusal(guest.delete_object, **deletion) == DENIED
        _retain(guest, locked, "GOVERNANCE", TOMORROW, **BYPASS)
        guest.delete_object(**deletion, **BYPASS)
        assert s3.refusal(client.head_object, **deletion) == (404, "404")

    def test_a_lock_is_told_to_who_may_see_it(self, node, client, guest, locked):
        _put(client, locked, **GOVERNED, **HELD)
        assert _lock(guest, locked) == ("GOVERNANCE", TOMORROW, "ON")
        for right, read, left in [
            ("s3:GetObjectRetention", guest.get_object_retention, (None, None, "ON")),
            ("s3:GetObjectLegalHold", guest.get_object_legal_hold, ("GOVERNANCE", TOMORROW, None)),
        ]:
            _set_policy(client, locked, right, effect="Deny")
            assert _lock(guest, locked) == left
            assert s3.refusal(read, Bucket=locked, Key="a") == DENIED
        _set_policy(client, locked, "s3:GetObject", who="*")
        answer = httpx.get(f"http://{node.s3}/{locked}/a")
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("x-amz-object-lock")]


def test_a_lock_outlives_its_store(launch):
    node = launch.store()
    client = s3.client(node.s3)
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    _configure(client, "locked", Mode="GOVERNANCE", Days=1)
    version = _put(client, "locked", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=NEXT_WEEK, **HELD)
    node.kill()
    client = s3.client(launch.store(folder=node.folder).s3)
    configuration = client.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"]
    assert configuration["Rule"] == {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    assert _lock(client, "locked") == ("COMPLIANCE", NEXT_WEEK, "ON")
    client.put_object_legal_hold(Bucket="locked", Key="a", LegalHold={"Status": "OFF"})
    assert s3.refusal(client.delete_object, Bucket="locked", Key="a", VersionId=version, **BYPASS) == DENIED
