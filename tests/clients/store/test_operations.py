"""docs/S3.md against the S3 API as botocore describes it, and against what the store answers."""

import re
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from harness import s3
from harness.node import REPOSITORY

DOCUMENT = REPOSITORY / "docs/S3.md"
# In the reference, and in no SDK.
BEYOND_SDKS = {"PostObject", "OPTIONS object"}
MISSING = "there-is-none"
# What stands for a value in a request that only has to be understood.
VALUES = {
    "x-amz-acl": "private",
    "x-amz-bucket-object-lock-enabled": "true",
    "x-amz-checksum-algorithm": "SHA256",
    "x-amz-checksum-mode": "ENABLED",
    "x-amz-checksum-type": "FULL_OBJECT",
    "x-amz-copy-source": f"{MISSING}/a",
    "x-amz-copy-source-range": "bytes=0-1",
    "x-amz-metadata-directive": "COPY",
    "x-amz-mp-object-size": "1",
    "x-amz-object-attributes": "ETag",
    "x-amz-object-ownership": "BucketOwnerEnforced",
    "x-amz-sdk-checksum-algorithm": "CRC32",
    "x-amz-storage-class": "STANDARD",
    "x-amz-tagging": "a=1",
    "x-amz-tagging-directive": "COPY",
    "x-amz-write-offset-bytes": "0",
    "x-amz-max-parts": "1",
    "x-amz-part-number-marker": "1",
}


class Row:
    """One row of a table: names, where they count, and what is done."""

    def __init__(self, cells):
        self.names = re.findall("`([^`]+)`", cells[0])
        self.where = set(re.findall("`([^`]+)`", cells[1])) if len(cells) > 2 else set()
        self.outcome = cells[-1].strip()
        # The refusal that the row tells of, if it does.
        told = re.match(r"`(\d{3}) (\w+)`", self.outcome)
        self.refusal = (int(told[1]), told[2]) if told else None


def _table(heading):
    text = DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [Row(cells) for cells in lines[2:]]


@pytest.fixture(scope="module")
def operations():
    """The row of each operation."""
    rows = {}
    for row in _table("Operations"):
        for name in row.names:
            assert name not in rows, f"{name} twice"
            rows[name] = row
    return rows


@pytest.fixture(scope="module")
def model(client):
    return client.meta.service_model


def _minimal(shape, bucket, name=""):
    """The least that botocore takes for a shape."""
    match shape.type_name:
        case "structure":
            names = shape.required_members or (list(shape.members)[:1] if shape.is_tagged_union else [])
            members = {m: shape.members[m] for m in names}
            return {m: _minimal(member, bucket, m) for m, member in members.items()}
        case "list":
            return [_minimal(shape.member, bucket)]
        case "map":
            return {}
        case "integer" | "long":
            return 1
        case "boolean":
            return True
        case "timestamp":
            return datetime(2030, 1, 1, tzinfo=UTC)
        case "blob":
            return b"x"
    known = {"Bucket": bucket, "Key": "a", "CopySource": f"{bucket}/a", "RenameSource": f"{bucket}/a"}
    return known.get(name) or (shape.enum[0] if shape.enum else "x" * shape.metadata.get("min", 1))


@pytest.fixture(scope="module")
def ask(store, model):
    """Calls an operation with the least that it takes, and further fields; the status and the code, 200 without one."""
    # The one host that an operation would put before ours stays away.
    client = s3.client(store.s3, inject_host_prefix=False)
    more = {}
    client.meta.events.register("before-sign.s3", lambda request, **_: [request.headers.__setitem__(*f) for f in more.items()])

    def ask(name, bucket, fields=None):
        more.clear()
        more.update(fields or {})
        shape = model.operation_model(name).input_shape
        parameters = _minimal(shape, bucket) if shape else {}
        try:
            client._make_api_call(name, parameters)
        except ClientError as error:
            answer = error.response
            return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
        return 200, None

    return ask


def test_the_table_names_every_operation_of_the_reference(operations, model):
    assert set(operations) - BEYOND_SDKS == set(model.operation_names)
    assert BEYOND_SDKS <= set(operations)


def test_what_the_table_says_of_an_operation_is_what_the_store_does(store, operations, model, ask, bucket):
    wrong = {}
    # Or it would be deleted on the way.
    s3.client(store.s3).put_object(Bucket=bucket, Key="kept", Body=b"x")
    for name in sorted(set(operations) - BEYOND_SDKS):
        row = operations[name]
        status, code = ask(name, bucket)
        if row.refusal:
            if (status, code) != row.refusal and not (model.operation_model(name).http["method"] == "HEAD"):
                wrong[name] = (status, code)
        elif status >= 500 or code in ("NotImplemented", "MethodNotAllowed"):
            wrong[name] = (status, code)
    assert not wrong


def test_the_table_says_what_is_done_with_every_field_of_every_operation(operations, model, ask):
    rows = _table("Request fields")
    wrong, unnamed = {}, set()
    for name in sorted(set(operations) - BEYOND_SDKS):
        if operations[name].refusal:
            continue
        shape = model.operation_model(name).input_shape
        for member in (shape.members if shape else {}).values():
            location = member.serialization.get("location")
            if location not in ("header", "headers"):
                continue
            field = member.serialization["name"].lower()
            found = [row for row in rows if field in row.names]
            row = next((row for row in found if name in row.where), None) or next((r for r in found if not r.where), None)
            if row is None:
                unnamed.add(f"{field} of {name}")
                continue
            if not field.startswith("x-amz-"):
                continue
            if field.endswith("-"):
                field += "a"
            answer = ask(name, MISSING, {field: VALUES.get(field, "1")})
            # The answer to a HEAD has no body that would tell the code.
            if row.refusal and answer not in (row.refusal, (row.refusal[0], str(row.refusal[0]))):
                wrong[f"{field} of {name}"] = answer
            if not row.refusal and answer[1] == "NotImplemented":
                wrong[f"{field} of {name}"] = answer
    assert not unnamed
    assert not wrong
