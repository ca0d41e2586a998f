"""s5cmd, which does many things at once: `run` is given a file of commands."""

import json
import sys
from pathlib import Path

import httpx
import pytest

from harness import s3
from harness.launch import ACCESS_KEY_ID, REGION, SECRET
from harness.programs import Program
from harness.s3 import MIB, files_in


@pytest.fixture(scope="module")
def s5cmd(store):
    environment = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    # The package brings the program beside Python's own.
    program = Path(sys.executable).with_name("s5cmd")
    return Program(program, "--endpoint-url", f"http://{store.s3}", "--retry-count", "0", environment=environment)


def test_a_folder_goes_there_and_back(s5cmd, bucket, tree, tmp_path):
    s5cmd("cp", "--part-size", "5", f"{tree}/", f"s3://{bucket}/tree/")
    s5cmd("cp", "--part-size", "5", f"s3://{bucket}/tree/*", f"{tmp_path}/back/")
    assert files_in(tmp_path / "back") == files_in(tree)
    listed = [json.loads(line) for line in s5cmd("--json", "ls", f"s3://{bucket}/tree/*").text.splitlines()]
    found = {entry["key"].split(f"{bucket}/tree/")[1]: entry.get("size", 0) for entry in listed}
    assert found == {key: len(body) for key, body in files_in(tree).items()}
    assert s5cmd("cat", f"s3://{bucket}/tree/a.txt").stdout == (tree / "a.txt").read_bytes()
    assert "7 objects" in s5cmd("du", f"s3://{bucket}/tree/*").text


def test_a_mirror_follows(s5cmd, bucket, tree):
    # By time a file that was made in this second would be newer than its copy.
    s5cmd("sync", "--size-only", f"{tree}/", f"s3://{bucket}/")
    (tree / "a.txt").write_bytes(b"longer than it was before")
    (tree / "empty").unlink()
    said = s5cmd("sync", "--size-only", "--delete", f"{tree}/", f"s3://{bucket}/").text
    assert "rm s3://" in said and "a.txt" in said and "big.mp4" not in said
    s5cmd("mv", f"s3://{bucket}/a.txt", f"s3://{bucket}/moved.txt")
    s5cmd("cp", f"s3://{bucket}/moved.txt", f"s3://{bucket}/copied.txt")
    assert s5cmd("cat", f"s3://{bucket}/copied.txt").stdout == b"longer than it was before"
    s5cmd("pipe", f"s3://{bucket}/piped", stdin=b"from a pipe")
    assert s5cmd("cat", f"s3://{bucket}/piped").stdout == b"from a pipe"
    url = s5cmd("presign", f"s3://{bucket}/piped").text.strip()
    assert httpx.get(url).content == b"from a pipe"
    assert json.loads(s5cmd("--json", "head", f"s3://{bucket}/piped").text)["size"] == 11
    s5cmd("rm", f"s3://{bucket}/*")
    assert s5cmd.run("ls", f"s3://{bucket}/*").code == 1


def test_many_commands_run_at_once(s5cmd, client, bucket, tmp_path):
    commands = []
    for number in range(100):
        file = tmp_path / str(number)
        file.write_bytes(s3.content(number * 100, "many"))
        commands.append(f"cp {file} s3://{bucket}/many/{number}")
    s5cmd("run", stdin="\n".join(commands).encode())
    sizes = {found["Key"]: found["Size"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert sizes == {f"many/{number}": number * 100 for number in range(100)}
    s5cmd("run", stdin="\n".join(f"rm s3://{bucket}/many/{number}" for number in range(100)).encode())
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_versions_are_listed_read_and_removed(s5cmd, client, versioned):
    first = client.put_object(Bucket=versioned, Key="a", Body=b"first")["VersionId"]
    client.put_object(Bucket=versioned, Key="a", Body=b"second")
    assert len(s5cmd("ls", "--all-versions", f"s3://{versioned}/a").text.splitlines()) == 2
    assert s5cmd("cat", "--version-id", first, f"s3://{versioned}/a").stdout == b"first"
    s5cmd("rm", "--all-versions", f"s3://{versioned}/*")
    assert "Versions" not in client.list_object_versions(Bucket=versioned)


def test_buckets_are_made_configured_and_removed(s5cmd, bucket):
    other = f"{bucket}-other"
    s5cmd("mb", f"s3://{other}")
    assert f"s3://{other}" in s5cmd("ls").text
    s5cmd("bucket-version", "--set", "Enabled", f"s3://{other}")
    assert "Enabled" in s5cmd("bucket-version", f"s3://{other}").text
    s5cmd("rb", f"s3://{other}")
    assert f"s3://{other}" not in s5cmd("ls").text
    assert "NoSuchBucket" in s5cmd.run("cp", f"s3://{other}/a", "/dev/null").stderr
