"""s3cmd, which lists with version 1 and speaks XML that others no longer do."""

import httpx
import pytest

from harness import programs, s3
from harness.launch import ACCESS_KEY_ID, REGION, SECRET
from harness.s3 import MIB, files_in


@pytest.fixture(scope="module")
def s3cmd(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3cmd")
    further = {"bucket_location": REGION, "signature_v2": "False"}
    return programs.s3cmd(folder, store.s3, ACCESS_KEY_ID, SECRET, **further)


def test_files_go_there_and_back(s3cmd, bucket, tree, tmp_path):
    for name in ["a.txt", "empty", "big.mp4"]:
        s3cmd("put", tree / name, f"s3://{bucket}/dir/{name}")
        s3cmd("get", f"s3://{bucket}/dir/{name}", tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tree / name).read_bytes()
    s3cmd("put", "-", f"s3://{bucket}/piped", stdin=b"from a pipe")
    assert s3cmd("get", f"s3://{bucket}/piped", "-").stdout == b"from a pipe"
    told = s3cmd("info", f"s3://{bucket}/dir/big.mp4").text
    assert f"File size: {11 * MIB}" in told and "MIME type: video/mp4" in told
    s3cmd("cp", f"s3://{bucket}/dir/big.mp4", f"s3://{bucket}/copied ü")
    s3cmd("mv", f"s3://{bucket}/copied ü", f"s3://{bucket}/moved")
    s3cmd("modify", "--add-header", "Cache-Control: no-store", f"s3://{bucket}/moved")
    s3cmd("get", f"s3://{bucket}/moved", tmp_path / "moved")
    assert (tmp_path / "moved").read_bytes() == (tree / "big.mp4").read_bytes()
    url = s3cmd("signurl", f"s3://{bucket}/piped", "+60").text.strip()
    # It signs URLs with Version 2, which this key does not allow.
    assert httpx.get(url).status_code in (200, 400, 403)


def test_a_folder_is_kept_the_same(s3cmd, bucket, tree, tmp_path):
    s3cmd("sync", f"{tree}/", f"s3://{bucket}/tree/")
    s3cmd("sync", f"s3://{bucket}/tree/", f"{tmp_path}/back/")
    assert files_in(tmp_path / "back") == files_in(tree)
    (tree / "a.txt").write_bytes(b"changed")
    (tree / "empty").unlink()
    s3cmd("sync", "--delete-removed", f"{tree}/", f"s3://{bucket}/tree/")
    listed = [line.split(maxsplit=3) for line in s3cmd("ls", "--recursive", f"s3://{bucket}").text.splitlines()]
    prefix = f"s3://{bucket}/tree/"
    assert {name.removeprefix(prefix): int(size) for _, _, size, name in listed} == {
        key: len(body) for key, body in files_in(tree).items()
    }
    assert f"DIR  s3://{bucket}/tree/" in s3cmd("ls", f"s3://{bucket}").text
    assert "6 objects" in s3cmd("du", f"s3://{bucket}/tree/").text
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/tree/")
    assert s3cmd("ls", "--recursive", f"s3://{bucket}").text == ""


def test_buckets_are_made_configured_and_removed(s3cmd, bucket, tmp_path):
    other = f"s3://{bucket}-other"
    s3cmd("mb", other)
    assert other in s3cmd("ls").text
    policy = tmp_path / "policy"
    policy.write_text(s3.policy(f"{bucket}-other", {"Action": "s3:GetObject"}))
    s3cmd("setpolicy", policy, other)
    told = s3cmd("info", other).text
    assert "Location:" in told and "s3:GetObject" in told
    s3cmd("delpolicy", other)
    rules = tmp_path / "cors"
    rules.write_text(
        "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
    s3cmd("setcors", rules, other)
    assert "AllowedMethod" in s3cmd("info", other).text
    s3cmd("delcors", other)
    lifecycle = tmp_path / "lifecycle"
    lifecycle.write_text(
        "<LifecycleConfiguration><Rule><ID>a</ID><Prefix>logs/</Prefix><Status>Enabled</Status>"
        "<Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"
    )
    s3cmd("setlifecycle", lifecycle, other)
    assert "<Days>3</Days>" in s3cmd("getlifecycle", other).text
    s3cmd("dellifecycle", other)
    s3cmd("expire", "--expiry-days=7", other)
    s3cmd("settagging", other, "a=1&b=2")
    assert s3cmd("gettagging", other).text.split()[-4:] == ["a:", "1", "b:", "2"]
    s3cmd("deltagging", other)
    s3cmd("setversioning", other, "enable")
    s3cmd("rb", other)
    assert other not in s3cmd("ls").text.split()


def test_lists_and_tags_of_objects(s3cmd, bucket, anonymous):
    target = f"s3://{bucket}/a"
    s3cmd("put", "-", target, stdin=b"x")
    assert anonymous.get(f"/{bucket}/a").status_code == 403
    s3cmd("setacl", "--acl-public", target)
    assert anonymous.get(f"/{bucket}/a").content == b"x"
    assert "*anon*: READ" in s3cmd("info", target).text
    s3cmd("setacl", "--acl-private", target)
    assert anonymous.get(f"/{bucket}/a").status_code == 403
    s3cmd("settagging", target, "k=v")
    assert s3cmd("gettagging", target).text.split()[-2:] == ["k:", "v"]
    s3cmd("deltagging", target)


def test_uploads_in_parts_are_listed_and_aborted(s3cmd, client, bucket):
    upload = client.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    client.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"x")
    assert upload in s3cmd("multipart", f"s3://{bucket}").text
    assert s3cmd("listmp", f"s3://{bucket}/a", upload).text
    s3cmd("abortmp", f"s3://{bucket}/a", upload)
    assert upload not in s3cmd("multipart", f"s3://{bucket}").text
