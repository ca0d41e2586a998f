"""Live video: ffmpeg writes into the store while Chromium plays it through the edge, seconds behind."""

import http.client
import threading

import pytest

from harness import live, s3
from harness.chromium import Chromium
from harness.node import REPOSITORY

PLAYER = REPOSITORY / "target/hls-player/node_modules/hls.js/dist/hls.min.js"
# From the moment that something happens until a viewer sees it.
DELAY_MAX_SECONDS = 4.0
# How long it has to play on without a stop and within that delay.
WATCHED_SECONDS = 3.0
# Until when a player has to have come as close as that.
PATIENCE_SECONDS = 20.0

PAGE = """<!doctype html><title>Live</title><body style="background:#234;color:#eee;font:20px sans-serif">
<h1>Live</h1><video muted width=640 height=360></video><p id=now></p>
<script src="PLAYER"></script><script>
const video = document.querySelector("video");
const trouble = [];
video.addEventListener("error", () => trouble.push(video.error.message));
let stops = 0, playing = false;
video.addEventListener("playing", () => { playing = true; });
// A jump to what is newest is no stop.
video.addEventListener("waiting", () => { if (playing && !video.seeking) stops += 1; });
</script><script src="SCRIPT"></script>"""

# hls.js says at which date of the playlist it is; the playlist says which date the film began at.
SEGMENTS = """
const hls = new Hls({ liveSyncDurationCount: 1, liveMaxLatencyDurationCount: 4, maxLiveSyncPlaybackRate: 1.5 });
hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) trouble.push(data.details); });
let firstDate = null;
hls.on(Hls.Events.LEVEL_LOADED, (_, data) => {
  const first = data.details.fragments[0];
  if (firstDate === null) firstDate = first.programDateTime / 1000 - first.sn;
});
const filmSeconds = () => (hls.playingDate ? hls.playingDate.getTime() / 1000 - firstDate : null);
hls.loadSource("live.m3u8");
hls.attachMedia(video);
"""

# Every byte as it comes; whoever has fallen behind jumps to the newest second.
GROWING = """
let appended = 0;
const filmSeconds = () => (video.readyState > 2 ? video.currentTime : null);
const source = new MediaSource();
video.src = URL.createObjectURL(source);
source.addEventListener("sourceopen", async () => {
  const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.42c01e"');
  const reader = (await fetch("film.mp4?follow")).body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const taken = new Promise((resolve) => buffer.addEventListener("updateend", resolve, { once: true }));
    buffer.appendBuffer(value);
    await taken;
    appended += value.length;
    const ranges = video.buffered;
    const end = ranges.length ? ranges.end(ranges.length - 1) : 0;
    if (end - video.currentTime > 1.5) video.currentTime = end - 0.7;
  }
});
"""

# Resolves when it has been watched for long enough, with the greatest delay that was seen meanwhile.
WATCH = """
new Promise((resolve, reject) => {
  let since = null, worst = 0, stopsBefore = 0, delay = null;
  const opened = Date.now() / 1000;
  const look = () => {
    if (trouble.length) return reject(new Error(trouble.join()));
    if (since === null && Date.now() / 1000 - opened > PATIENCE) return reject(new Error(`${delay} s behind, ${stops} stops`));
    const at = filmSeconds();
    if (at === null || !playing) return;
    const wall = Date.now() / 1000;
    delay = wall - BEGAN - at;
    now.textContent = `${delay.toFixed(2)} s behind`;
    // The player comes closer first; from then on it counts.
    if (since === null && delay < DELAY) { since = wall; stopsBefore = stops; worst = 0; }
    if (since === null) return;
    worst = Math.max(worst, delay);
    if (wall - since > WATCHED) resolve({ delay, worst, stops: stops - stopsBefore });
  };
  setInterval(look, 50);
  video.play().catch(() => {});
})
"""


@pytest.fixture
def studio(launch):
    """A node with a bucket `live` that everybody may read through the edge, and the encoder may write."""
    routes = [{"name": "live", "path": "/live/", "origin": "store", "access": "public"}]
    node = launch.up(edge={"routes": routes})
    store = s3.client(node.s3)
    store.create_bucket(Bucket="live")
    encoder = {"Action": "s3:PutObject", "Condition": {"StringEquals": {"aws:Referer": live.REFERER}}}
    store.put_bucket_policy(Bucket="live", Policy=s3.policy("live", {"Action": "s3:GetObject"}, encoder))
    store.put_object(Bucket="live", Key="hls.js", Body=PLAYER.read_bytes(), ContentType="text/javascript")
    return node


def _page(node, folder, script, player="data:text/javascript,"):
    store = s3.client(node.s3)
    store.put_object(Bucket="live", Key=f"{folder}/play.js", Body=script.encode(), ContentType="text/javascript")
    page = PAGE.replace("PLAYER", player).replace("SCRIPT", "play.js")
    store.put_object(Bucket="live", Key=f"{folder}/index.html", Body=page.encode(), ContentType="text/html")
    return f"https://{node.https}/live/{folder}/index.html"


def _watch(browser, camera):
    script = WATCH.replace("BEGAN", str(camera.began)).replace("DELAY", str(DELAY_MAX_SECONDS))
    script = script.replace("WATCHED", str(WATCHED_SECONDS)).replace("PATIENCE", str(PATIENCE_SECONDS))
    seen = browser.evaluate(script)
    print(f"delay at most {seen['worst']:.2f} s, at the end {seen['delay']:.2f} s, {seen['stops']} stops")
    return seen


def test_segments_that_ffmpeg_puts_play_with_little_delay(studio, tmp_path, artifacts):
    page = _page(studio, "hls", SEGMENTS, player="/live/hls.js")
    browser = Chromium(tmp_path, studio.ca)
    camera = live.segments_by_put(f"http://{studio.http}/live/hls")
    try:
        _wait_for_put(studio, "/live/hls/live.m3u8", 2)
        browser.open(page)
        seen = _watch(browser, camera)
        browser.screenshot(artifacts / "live-segments.png")
    finally:
        browser.close()
        complaints = camera.close()
    assert complaints == []
    assert seen["worst"] < DELAY_MAX_SECONDS and seen["stops"] == 0
    # A segment never changes and is fetched once; the playlist is forgotten when it changes.
    played = [record for record in studio.records(method="GET") if record["path"].endswith(".m4s")]
    assert played and {record["status"] for record in played} == {200}
    assert studio.purges() > 0


def test_a_film_that_is_appended_to_plays_as_it_grows(studio, tmp_path, artifacts):
    page = _page(studio, "growing", GROWING)
    browser = Chromium(tmp_path, studio.ca)
    writer = s3.client(studio.s3)
    camera = live.fragments()
    film = _Film(writer, camera)
    try:
        film.wait_for_pieces(3)
        reader = _Reader(studio.http, "/live/growing/film.mp4?follow")
        browser.open(page)
        seen = _watch(browser, camera)
        browser.screenshot(artifacts / "live-growing.png")
        camera.process.terminate()
        film.wait_for_end()
        reader.wait_for_end()
        assert browser.evaluate(APPENDED.replace("LENGTH", str(len(film.written)))) == len(film.written)
    finally:
        browser.close()
        camera.close()
    assert seen["worst"] < DELAY_MAX_SECONDS and seen["stops"] == 0
    # The edge hands both readers what comes, and keeps none of it.
    assert reader.body == film.written
    assert "fwd=" in reader.cache_status and "stored" not in reader.cache_status, reader.cache_status
    followed = studio.wait_for_records(2, path="/live/growing/film.mp4", method="GET")
    assert {(record["status"], record["bytes"]) for record in followed} == {(200, len(film.written))}
    metrics, name = studio.metrics(), "tidegate_store_followed_pieces_total"
    read, shared = (metrics.sum(name, **{"from": origin}) for origin in ("store", "memory"))
    print(f"{film.pieces} pieces, {read} reads, {shared} pieces from memory")
    # Each piece is shorter than one read, and what there was at the beginning took the readers a few.
    assert read <= film.pieces + 3 and shared > film.pieces / 2


APPENDED = """
new Promise((resolve) => setInterval(() => { if (appended >= LENGTH) resolve(appended); }, 20))
"""


def _wait_for_put(node, path, count):
    records = node.wait_for_records(count, path=path, method="PUT")
    assert {record["status"] for record in records} == {200}


class _Film:
    """Appends the pieces of a camera to one object, and seals it at the end."""

    def __init__(self, client, camera):
        self.written = b""
        self.pieces = 0
        self._client = client
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(camera.process.stdout,), daemon=True)
        self._thread.start()

    def _run(self, stream):
        for piece in live.pieces(stream):
            self._append(piece)
        # boto3 has no word for the seal, so it is added to the request.
        self._client.meta.events.register("before-sign.s3.PutObject", _seal)
        self._append(b"")

    def _append(self, piece):
        place = {"Bucket": "live", "Key": "growing/film.mp4", "WriteOffsetBytes": len(self.written)}
        self._client.put_object(**place, Body=piece, ContentType="video/mp4")
        with self._changed:
            self.written += piece
            self.pieces += 1
            self._changed.notify_all()

    def wait_for_pieces(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.pieces >= count, 30)

    def wait_for_end(self):
        self._thread.join(30)
        assert not self._thread.is_alive()


def _seal(request, **_):
    request.headers["x-tidegate-seal"] = "true"


class _Reader:
    """Follows an object to its end."""

    def __init__(self, address, target):
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", target)
        response = connection.getresponse()
        assert response.status == 200
        self.cache_status = response.getheader("cache-status")
        self.body = b""
        self._thread = threading.Thread(target=self._read, args=(response,), daemon=True)
        self._thread.start()

    def _read(self, response):
        self.body = response.read()

    def wait_for_end(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
