"""The AWS SDK for JavaScript: its steps are in aws_sdk_js/store.mjs."""

import json
import subprocess

import pytest

from harness.launch import ACCESS_KEY_ID, REGION, SECRET
from harness.node import REPOSITORY
from harness.signers import AWS_SDK_JS_PACKAGES

SCRIPT = REPOSITORY / "tests/clients/aws_sdk_js/store.mjs"
CHECKSUMS = {
    "new": {},
    "old": {"requestChecksumCalculation": "WHEN_REQUIRED", "responseChecksumValidation": "WHEN_REQUIRED"},
}


@pytest.mark.parametrize("checksums", CHECKSUMS)
def test_an_application_in_javascript_works(store, checksums):
    job = {
        "endpoint": f"http://{store.s3}",
        "region": REGION,
        "credentials": {"accessKeyId": ACCESS_KEY_ID, "secretAccessKey": SECRET},
        "bucket": f"js-{checksums}",
        "checksums": CHECKSUMS[checksums],
    }
    done = subprocess.run(
        ["node", SCRIPT, AWS_SDK_JS_PACKAGES],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    failed = {name: error for name, error in json.loads(done.stdout).items() if error}
    assert not failed, "\n".join(f"{name}: {error}" for name, error in failed.items())
