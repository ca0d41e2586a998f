"""The AWS command line interface: `aws s3`, and `aws s3api` for what `aws s3` does not do."""

import json
import os

import httpx
import pytest
from harness import checksums, s3
from harness.forked import Forked
from harness.launch import ACCESS_KEY_ID, REGION, SECRET
from harness.s3 import CHECKSUMS, MIB, files_in


@pytest.fixture(scope="module")
def aws(store, tmp_path_factory):
    """The command with its defaults."""
    yield from _command(store, tmp_path_factory.mktemp("aws"), {})


@pytest.fixture(scope="module", params=CHECKSUMS)
def either(request, store, tmp_path_factory):
    """The command with each behaviour of checksums."""
    yield from _command(store, tmp_path_factory.mktemp("aws"), CHECKSUMS[request.param])


def _command(store, folder, behaviour):
    config = folder / "config"
    config.write_text(
        "[default]\ns3 =\n  addressing_style = path\n  signature_version = s3v4\n  multipart_threshold = 6MB\n  multipart_chunksize = 5MB\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_CONFIG_FILE": str(config),
        "AWS_ENDPOINT_URL_S3": f"http://{store.s3}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
        # The other suites sign and sum with the library in C; this one does it in Python.
        "BOTO_DISABLE_CRT": "true",
    }
    for name, value in behaviour.items():
        environment[f"AWS_{name.upper()}"] = value
    program = Forked("awscli.clidriver:main", "aws", folder, environment)
    yield program
    program.close()


def test_files_go_there_and_back(either, bucket, tmp_path):
    aws = either
    for size in [0, 11 * MIB]:
        body = s3.content(size, "aws")
        file = tmp_path / "sent"
        file.write_bytes(body)
        aws("s3", "cp", file, f"s3://{bucket}/dir/sent", "--content-type", "video/mp4", "--metadata", "a=b")
        aws("s3", "cp", f"s3://{bucket}/dir/sent", f"s3://{bucket}/copied")
        aws("s3", "cp", f"s3://{bucket}/copied", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == body
    head = aws("s3api", "head-object", "--bucket", bucket, "--key", "dir/sent").json
    assert (head["ContentType"], head["Metadata"]) == ("video/mp4", {"a": "b"})
    assert aws("s3", "cp", f"s3://{bucket}/copied", "-").stdout == body
    aws("s3", "cp", "-", f"s3://{bucket}/from-stdin", stdin=b"piped")
    assert aws("s3", "cp", f"s3://{bucket}/from-stdin", "-").stdout == b"piped"


def test_a_folder_is_kept_the_same(aws, bucket, tree, tmp_path):
    there, back = f"s3://{bucket}/tree", tmp_path / "back"
    aws("s3", "sync", tree, there)
    aws("s3", "sync", there, back)
    assert files_in(back) == files_in(tree)
    # By time a file that was made in this second would be newer than its copy.
    assert aws("s3", "sync", tree, there, "--size-only").text == ""
    (tree / "a.txt").write_bytes(b"longer than it was before")
    (tree / "empty").unlink()
    said = aws("s3", "sync", tree, there, "--size-only", "--delete", "--no-progress").text
    assert sorted(line.split(":")[0] for line in said.splitlines()) == ["delete", "upload"]
    aws("s3", "sync", there, f"s3://{bucket}/second", "--exclude", "*.mp4")
    aws("s3", "cp", f"s3://{bucket}/second", tmp_path / "second", "--recursive")
    assert files_in(tmp_path / "second") == {name: body for name, body in files_in(tree).items() if name != "big.mp4"}


def test_buckets_are_made_listed_emptied_and_removed(aws, bucket, tree):
    other = f"{bucket}-other"
    aws("s3", "mb", f"s3://{other}")
    assert other in aws("s3", "ls").text
    aws("s3", "cp", tree, f"s3://{other}", "--recursive", "--exclude", "big.mp4")
    listed = [line.split(maxsplit=3) for line in aws("s3", "ls", f"s3://{other}", "--recursive", "--summarize").text.splitlines()]
    sizes = {line[3]: int(line[2]) for line in listed if len(line) == 4 and line[2].isdigit()}
    assert sizes == {name: len(body) for name, body in files_in(tree).items() if name != "big.mp4"}
    assert "PRE sub/" in aws("s3", "ls", f"s3://{other}").text
    aws("s3", "mv", f"s3://{other}/a.txt", f"s3://{other}/moved.txt")
    assert "a.txt" not in aws("s3", "ls", f"s3://{other}").text
    aws("s3", "rm", f"s3://{other}/moved.txt")
    assert aws.run("s3", "rb", f"s3://{other}").code == 1
    aws("s3", "rm", f"s3://{other}", "--recursive")
    aws("s3", "rb", f"s3://{other}")
    assert other not in aws("s3", "ls").text
    failed = aws.run("s3", "ls", f"s3://{other}")
    assert failed.code != 0 and "NoSuchBucket" in failed.stderr


def test_a_presigned_url_is_good_for_anybody(aws, bucket, tmp_path):
    aws("s3", "cp", "-", f"s3://{bucket}/ü +", stdin=b"signed")
    url = aws("s3", "presign", f"s3://{bucket}/ü +", "--expires-in", "60").text.strip()
    assert httpx.get(url).content == b"signed"


def test_every_other_operation_is_one_of_s3api(aws, bucket, tmp_path):
    def api(operation, **arguments):
        flags = []
        for name, value in {"bucket": bucket, **arguments}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            flags += [f"--{name.replace('_', '-')}", text]
        done = aws("s3api", operation, *flags)
        return done.json if done.stdout.strip() else {}

    api("put-bucket-versioning", versioning_configuration={"Status": "Enabled"})
    assert api("get-bucket-location") == {"LocationConstraint": None}
    tags = {"TagSet": [{"Key": "a", "Value": "1"}]}
    api("put-bucket-tagging", tagging=tags)
    assert api("get-bucket-tagging") == tags
    lifecycle = {"Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 1}}]}
    api("put-bucket-lifecycle-configuration", lifecycle_configuration=lifecycle)
    assert api("get-bucket-lifecycle-configuration")["Rules"] == lifecycle["Rules"]

    file = tmp_path / "body"
    file.write_bytes(b"first")
    first = api("put-object", key="a", body=str(file), checksum_algorithm="SHA256", tagging="k=v")
    assert first["ChecksumSHA256"] == checksums.text("SHA256", b"first")
    file.write_bytes(b"second")
    second = api("put-object", key="a", body=str(file))
    versions = [found["VersionId"] for found in api("list-object-versions")["Versions"]]
    assert versions == [second["VersionId"], first["VersionId"]]
    out = tmp_path / "out"
    done = aws("s3api", "get-object", "--bucket", bucket, "--key", "a", "--version-id", first["VersionId"], out)
    assert (out.read_bytes(), done.json["ContentLength"]) == (b"first", 5)
    upload = api("create-multipart-upload", key="big")["UploadId"]
    file.write_bytes(s3.content(5 * MIB, "cli part"))
    parts = [api("upload-part", key="big", upload_id=upload, part_number="1", body=str(file))]
    copied = api("upload-part-copy", key="big", upload_id=upload, part_number="2", copy_source=f"{bucket}/a")
    parts.append(copied["CopyPartResult"])
    document = {"Parts": [{"PartNumber": n, "ETag": part["ETag"]} for n, part in enumerate(parts, 1)]}
    api("complete-multipart-upload", key="big", upload_id=upload, multipart_upload=document)
    aws("s3", "cp", f"s3://{bucket}/big", out)
    assert out.read_bytes() == file.read_bytes() + b"second"
    assert [found["Key"] for found in api("list-objects-v2", page_size="1")["Contents"]] == ["a", "big"]
    everything = api("list-object-versions")["Versions"]
    objects = [{"Key": found["Key"], "VersionId": found["VersionId"]} for found in everything]
    assert len(api("delete-objects", delete={"Objects": objects})["Deleted"]) == 3
    aws("s3api", "delete-bucket", "--bucket", bucket)
