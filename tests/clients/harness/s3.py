"""boto3 as the suites use it, and the bytes that they upload."""

import random

import boto3
from botocore.config import Config

from .launch import ACCESS_KEY_ID, REGION, SECRET

KIB = 1024
MIB = 1024 * KIB


def client(address, *, scheme="http", verify=None, secret=SECRET, access_key_id=ACCESS_KEY_ID, **config):
    """A client for a store or an edge. Nothing is tried twice: a second try would hide a first failure."""
    return boto3.client(
        "s3",
        endpoint_url=f"{scheme}://{address}",
        region_name=REGION,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        verify=str(verify) if verify else None,
        config=Config(
            signature_version="s3v4",
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


def content(size, seed):
    """Bytes that look random and are the same in every run."""
    return random.Random(f"{seed}/{size}").randbytes(size)
