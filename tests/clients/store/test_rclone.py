"""rclone: copies, mirrors, checks, moves, streams, and serves what is in the store."""

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness import s3
from harness.launch import ACCESS_KEY_ID, REGION, SECRET
from harness.ports import free_port
from harness.programs import Program
from harness.s3 import MIB, files_in
from harness.waiting import poll


@pytest.fixture(scope="module")
def rclone(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "rclone.conf").touch()
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": f"http://{store.s3}",
        "REGION": REGION,
        "ACCESS_KEY_ID": ACCESS_KEY_ID,
        "SECRET_ACCESS_KEY": SECRET,
        "FORCE_PATH_STYLE": "true",
        "UPLOAD_CUTOFF": "6Mi",
        "CHUNK_SIZE": "5Mi",
        "COPY_CUTOFF": "6Mi",
    }
    environment = {f"RCLONE_CONFIG_STORE_{name}": value for name, value in remote.items()}
    environment |= {"RCLONE_CONFIG": str(folder / "rclone.conf"), "RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1"}
    return Program("rclone", environment=environment)


def test_a_folder_goes_there_and_back(rclone, bucket, tree, tmp_path):
    there = f"store:{bucket}/tree"
    rclone("copy", tree, there)
    # It compares sizes and MD5 of both sides.
    rclone("check", tree, there)
    rclone("check", tree, there, "--download")
    rclone("copy", there, tmp_path / "back")
    assert files_in(tmp_path / "back") == files_in(tree)
    sizes = dict(line.strip().split(" ", 1)[::-1] for line in rclone("ls", there).text.splitlines())
    assert {name: int(size) for name, size in sizes.items()} == {name: len(body) for name, body in files_in(tree).items()}
    # The times of files are kept, so that nothing is copied twice.
    assert "nothing to transfer" in rclone("copy", tree, there, "-v").stderr
    other = f"store:{bucket}/other"
    rclone("copy", there, other)
    rclone("check", there, other)


def test_a_mirror_follows_and_a_difference_is_found(rclone, bucket, tree):
    there = f"store:{bucket}/tree"
    rclone("sync", tree, there)
    (tree / "a.txt").write_bytes(b"changed, and longer")
    (tree / "empty").unlink()
    assert rclone.run("check", tree, there).code == 1
    rclone("sync", tree, there)
    rclone("check", tree, there)
    rclone("moveto", f"{there}/a.txt", f"{there}/moved/b.txt")
    assert rclone("cat", f"{there}/moved/b.txt").stdout == b"changed, and longer"
    rclone("rcat", f"{there}/streamed", stdin=b"from a pipe")
    assert rclone("cat", f"{there}/streamed").stdout == b"from a pipe"
    big = s3.content(11 * MIB, "rcat")
    rclone("rcat", f"{there}/streamed-big", stdin=big)
    assert rclone("cat", f"{there}/streamed-big", "--offset", MIB, "--count", 100).stdout == big[MIB : MIB + 100]
    rclone("touch", f"{there}/touched")
    assert rclone("size", f"{there}/touched", "--json").text.startswith('{"count":1,"bytes":0')
    rclone("deletefile", f"{there}/touched")
    rclone("delete", there)
    assert rclone("lsf", "-R", "--files-only", there).text == ""


def test_buckets_are_made_and_removed(rclone, bucket):
    other = f"{bucket}-other"
    rclone("mkdir", f"store:{other}")
    assert other in [line.split()[-1] for line in rclone("lsd", "store:").text.splitlines()]
    rclone("rcat", f"store:{other}/x", stdin=b"x")
    rclone("purge", f"store:{other}")
    assert other not in rclone("lsd", "store:").text


def test_versions_and_uploads_are_seen(rclone, client, versioned):
    client.put_object(Bucket=versioned, Key="a", Body=b"first")
    client.put_object(Bucket=versioned, Key="a", Body=b"second")
    client.create_multipart_upload(Bucket=versioned, Key="unfinished")
    listed = rclone("lsf", f"store:{versioned}", "--s3-versions").text.splitlines()
    assert len(listed) == 2 and "a" in listed
    assert "unfinished" in rclone("backend", "list-multipart-uploads", f"store:{versioned}").text
    rclone("backend", "cleanup", f"store:{versioned}", "-o", "max-age=0")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=versioned)
    rclone("cleanup", f"store:{versioned}")


def test_what_is_in_the_store_is_served_over_http(rclone, bucket, tree):
    rclone("copy", tree, f"store:{bucket}")
    port = free_port()
    command = [*rclone.command, "serve", "http", "--addr", f"127.0.0.1:{port}", f"store:{bucket}"]
    server = subprocess.Popen(command, env=rclone.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        poll(lambda: _listens(port), "rclone serve http")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as reader:
            body = (tree / "big.mp4").read_bytes()
            assert reader.get("/big.mp4").content == body
            part = reader.get("/big.mp4", headers={"Range": "bytes=6000000-6000099"})
            assert (part.status_code, part.content) == (206, body[6_000_000:6_000_100])
    finally:
        server.terminate()
        server.wait(10)


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_many_writers_do_not_hurt_each_other(rclone, bucket, tmp_path):
    folders = []
    for writer in range(3):
        folder = tmp_path / str(writer)
        folder.mkdir()
        for number in range(20):
            (folder / f"{writer}-{number}").write_bytes(s3.content(number * 1000, f"{writer}"))
        folders.append(folder)
    with ThreadPoolExecutor(len(folders)) as writers:
        list(writers.map(lambda folder: rclone("copy", folder, f"store:{bucket}"), folders))
    for folder in folders:
        rclone("check", folder, f"store:{bucket}", "--one-way")
