"""boto3 as the suites use it, and the bytes that they upload."""

import json
import random

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .launch import ACCESS_KEY_ID, REGION, SECRET

KIB = 1024
MIB = 1024 * KIB

# How an SDK deals with checksums: as it does by default since 2025, and as it did before.
CHECKSUMS = {
    "new": {},
    "old": {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"},
}


def client(
    address,
    *,
    scheme="http",
    verify=None,
    secret=SECRET,
    access_key_id=ACCESS_KEY_ID,
    signature_version="s3v4",
    **config,
):
    """A client for a store or an edge. Nothing is tried twice: a second try would hide a first failure."""
    return boto3.client(
        "s3",
        endpoint_url=f"{scheme}://{address}",
        region_name=REGION,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        verify=str(verify) if verify else None,
        config=Config(
            signature_version=signature_version,
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=10,
            read_timeout=30,
            **config,
        ),
    )


def presign(
    address, bucket, key, *, method="get_object", scheme="http", expires_seconds=600, more=None, **credentials
):
    """A SigV4 URL against `address`, made without talking to anybody."""
    return client(address, scheme=scheme, **credentials).generate_presigned_url(
        method, Params={"Bucket": bucket, "Key": key, **(more or {})}, ExpiresIn=expires_seconds
    )


def refusal(call, *arguments, **parameters):
    """The status and the code of the error that a call must end with; a HEAD has its status as its code."""
    with pytest.raises(ClientError) as refused:
        call(*arguments, **parameters)
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def policy(bucket, *statements):
    """A policy; each statement is completed with an effect and a resource where it has none."""
    common = {"Effect": "Allow", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [common | statement for statement in statements]})


def files_in(folder):
    """The bytes of each file below a folder, by its name in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def content(size, seed):
    """Bytes that look random and are the same in every run."""
    return random.Random(f"{seed}/{size}").randbytes(size)
