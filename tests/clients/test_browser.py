"""A video plays in a real browser, from a presigned HTTPS URL of the edge, and can be sought in."""

import html
import subprocess

import pytest

from harness import s3
from harness.chromium import Chromium
from harness.s3 import MIB

SECONDS = 90
# From the page: resolves when the video has fired the event, rejects when it has failed.
WAIT_FOR = """
new Promise((resolve, reject) => {{
  const video = document.querySelector("video");
  const failed = () => reject(new Error(video.error ? video.error.message : "no source"));
  if (video.error) failed();
  video.addEventListener("error", failed, {{ once: true }});
  const done = () => {{ if ({condition}) {{ video.removeEventListener("{event}", done); resolve(video.currentTime); }} }};
  video.addEventListener("{event}", done);
  {action};
}})
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """An mp4 that ends with its index, as encoders leave it: a player must jump to the end to begin."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi"]
    command += ["-i", f"testsrc2=size=640x360:rate=25:duration={SECONDS},noise=alls=20:allf=t"]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50"]
    command += ["-b:v", "5M", "-minrate", "5M", "-maxrate", "5M", "-bufsize", "5M"]
    command += ["-c:a", "aac", "-shortest", str(file)]
    subprocess.run(command, check=True)
    data = file.read_bytes()
    assert data.index(b"mdat") < data.rindex(b"moov"), "the index is at the front: no seeking needed"
    assert len(data) > 45 * MIB
    return file


def test_a_video_plays_and_seeks_over_h2_with_ranges(launch, film, tmp_path, artifacts):
    node = launch.up(relayed=True)
    relay = node.relay
    store = s3.client(node.s3)
    store.create_bucket(Bucket="suite")
    with film.open("rb") as body:
        store.put_object(Bucket="suite", Key="film.mp4", Body=body, ContentType="video/mp4")
    size = film.stat().st_size
    video = s3.presign(node.https, "suite", "film.mp4", scheme="https")
    page = (
        "<!doctype html><title>Tidegate plays</title><body style='background:#234;color:#eee;font:20px sans-serif'>"
        f"<h1>Tidegate</h1><video controls muted preload=auto width=640 height=360 src=\"{html.escape(video)}\"></video>"
        "<p id=now></p><script>const v = document.querySelector('video');"
        "v.ontimeupdate = () => now.textContent = `${v.currentTime.toFixed(1)} of ${v.duration.toFixed(1)} s`;"
        "</script>"
    )
    store.put_object(Bucket="suite", Key="page.html", Body=page.encode(), ContentType="text/html")

    browser = Chromium(tmp_path, node.ca)
    try:
        browser.open(s3.presign(node.https, "suite", "page.html", scheme="https"))
        assert browser.evaluate("document.title") == "Tidegate plays"
        _wait(browser, "playing", "video.play()")
        assert _wait(browser, "timeupdate", condition="video.currentTime > 1") > 1
        assert browser.evaluate("document.querySelector('video').videoWidth") == 640
        browser.screenshot(artifacts / "video-start.png")
        before_seek = relay.received_bytes
        print(f"{before_seek / MIB:.1f} MiB of {size / MIB:.1f} MiB were fetched to begin")

        target = SECONDS * 0.9
        sought = _wait(browser, "seeked", f"video.currentTime = {target}")
        assert sought == pytest.approx(target, abs=0.5)
        played = _wait(browser, "timeupdate", condition=f"video.currentTime > {target + 1.5}")
        assert played > target + 1.5
        browser.screenshot(artifacts / "video-after-seek.png")
        assert browser.evaluate("document.querySelector('video').paused") is False
    finally:
        browser.close()

    records = node.wait_for_records(3, path="/suite/film.mp4")
    for record in records:
        print({name: record.get(name) for name in SHOWN})
    ranges = [record for record in records if record["status"] == 206]
    assert len(ranges) >= 3
    # The browser asks whether what it has kept itself is still good: then there is nothing to send.
    assert {record["status"] for record in records} <= {206, 304}
    assert {record["protocol"] for record in records} == {"h2"}
    assert all(record["range"].startswith("bytes=") for record in ranges)
    fetched = relay.received_bytes
    print(f"{fetched / MIB:.1f} MiB of {size / MIB:.1f} MiB were fetched from the store in all")
    # Playing the start and the end must not cost the origin the middle, and nothing twice.
    assert fetched < 0.75 * size


SHOWN = ("status", "outcome", "range", "content_range", "bytes", "source", "aborted", "duration_ms")


def _wait(browser, event, action="", condition="true"):
    return browser.evaluate(WAIT_FOR.format(event=event, action=action, condition=condition))
