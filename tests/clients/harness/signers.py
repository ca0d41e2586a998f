"""URLs from the signers that people use, made without talking to anybody unless it says so."""

import json
import os
import subprocess
from datetime import timedelta

import boto3
import minio
from botocore.config import Config

from .launch import ACCESS_KEY_ID, REGION, SECRET
from .node import REPOSITORY

AWS_SDK_JS = REPOSITORY / "tests/clients/aws_sdk_js/presign.mjs"
AWS_SDK_JS_PACKAGES = REPOSITORY / "target/aws-sdk-js"
EXPIRES_SECONDS = 3600


def boto3_client(endpoint, *, version="s3v4", style="path", token=None):
    """boto3 with `s3v4` or its default for endpoints of one's own, `s3` (Version 2)."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=Config(signature_version=version, s3={"addressing_style": style}, retries={"total_max_attempts": 1}),
    )


def boto3_urls(endpoint, requests, **options):
    """One URL for each (operation, parameters)."""
    client = boto3_client(endpoint, **options)
    return [client.generate_presigned_url(name, Params=more, ExpiresIn=EXPIRES_SECONDS) for name, more in requests]


def minio_client(endpoint, *, style="path"):
    scheme, address = endpoint.split("://")
    client = minio.Minio(
        address, access_key=ACCESS_KEY_ID, secret_key=SECRET, secure=scheme == "https", region=REGION
    )
    if style == "virtual":
        client.enable_virtual_style_endpoint()
    return client


def minio_urls(endpoint, requests, *, style="path"):
    """One URL for each (bucket, key, response overrides)."""
    client = minio_client(endpoint, style=style)
    expires = timedelta(seconds=EXPIRES_SECONDS)
    return [
        client.presigned_get_object(bucket, key, expires=expires, response_headers=overrides)
        for bucket, key, overrides in requests
    ]


def aws_sdk_js(requests):
    """What the SDK for JavaScript signs; see presign.mjs for the form of a request."""
    credentials = {"accessKeyId": ACCESS_KEY_ID, "secretAccessKey": SECRET}
    document = {"credentials": credentials, "region": REGION, "requests": requests}
    done = subprocess.run(
        ["node", AWS_SDK_JS, AWS_SDK_JS_PACKAGES],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rclone_links(endpoint, bucket, keys, *, folder):
    """One URL for each key, from `rclone link`, which asks `endpoint` whether the object is there."""
    # What the shell says about AWS is not meant for these tests.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = inherited | {
        "RCLONE_CONFIG": str(folder / "rclone.conf"),
        "RCLONE_CONFIG_EDGE_TYPE": "s3",
        "RCLONE_CONFIG_EDGE_PROVIDER": "Other",
        "RCLONE_CONFIG_EDGE_ENDPOINT": endpoint,
        "RCLONE_CONFIG_EDGE_REGION": REGION,
        "RCLONE_CONFIG_EDGE_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "RCLONE_CONFIG_EDGE_SECRET_ACCESS_KEY": SECRET,
        "RCLONE_CONFIG_EDGE_FORCE_PATH_STYLE": "true",
        "RCLONE_CONFIG_EDGE_ENCODING": "None",
    }
    folder.joinpath("rclone.conf").touch()
    links = []
    for key in keys:
        done = subprocess.run(
            ["rclone", "link", f"edge:{bucket}/{key}", "--expire", f"{EXPIRES_SECONDS}s", "--retries", "1"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        links.append(done.stdout.strip())
    return links
