"""A film in HLS plays in a real browser over HTTPS, opened by CloudFront's signed cookies; the second viewer, who has
another cookie, gets what the first one has brought."""

import base64
import datetime
import functools
import http.server
import json
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from harness.chromium import Chromium
from harness.node import REPOSITORY

PLAYER = REPOSITORY / "target/hls-player/node_modules/hls.js/dist/hls.min.js"
SECONDS = 16
SEGMENT_SECONDS = 2
PAGE = """<!doctype html><title>HLS</title><video muted controls width=640 height=360></video>
<script src="/player.js"></script><script>
const video = document.querySelector("video");
let fatal = null;
const hls = new Hls({ maxBufferLength: 30 });
hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) fatal = `${data.details} ${data.response && data.response.code}`; });
hls.loadSource("/films/42/index.m3u8");
hls.attachMedia(video);
</script>"""
PLAYED = """
new Promise((resolve, reject) => {
  const look = () => {
    if (fatal) reject(new Error(fatal));
    else if (video.ended || video.currentTime > SECONDS_TO_PLAY) resolve(video.currentTime);
  };
  for (const event of ["timeupdate", "ended"]) video.addEventListener(event, look);
  hls.on(Hls.Events.ERROR, look);
  look();
  video.play().catch(() => {});
})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as an origin serves it: a page, a player and a film in segments."""
    folder = tmp_path_factory.mktemp("site")
    film = folder / "films/42"
    film.mkdir(parents=True)
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={SECONDS}"]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}", "-pix_fmt", "yuv420p"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", str(25 * SEGMENT_SECONDS), "-c:a", "aac"]
    command += ["-hls_time", str(SEGMENT_SECONDS), "-hls_playlist_type", "vod", str(film / "index.m3u8")]
    subprocess.run(command, check=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "player.js").write_bytes(PLAYER.read_bytes())
    return folder


class Origin(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what it was asked for and with which cookies."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_GET(self):  # noqa: N802 - the library calls it so
        self.seen.append((self.path, self.headers.get("Cookie")))
        super().do_GET()

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()

    def log_message(self, *_):
        """Silent: a test says what matters."""


def test_film_plays_with_a_signed_cookie_and_is_there_for_the_next_viewer(launch, site, tmp_path, artifacts):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Origin, directory=site))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = tmp_path / "viewers.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    routes = [
        {"name": "films", "path": "/films/", "origin": "site", "access": "signed"},
        {"name": "page", "path": "/", "origin": "site", "access": "public"},
    ]
    edge = {
        "origins": {"site": {"servers": [f"127.0.0.1:{server.server_port}"]}},
        "routes": routes,
        "signing": {"keys": [{"id": "VIEWERS", "scheme": "cloudfront", "public_key_file": str(public)}]},
    }
    node = launch.up(edge=edge)
    segments = sorted(file.name for file in (site / "films/42").glob("*.ts"))
    assert len(segments) == SECONDS // SEGMENT_SECONDS

    stranger = Chromium(tmp_path / "stranger", node.ca)
    try:
        stranger.open(f"https://{node.https}/index.html")
        status = stranger.evaluate("fetch('/films/42/index.m3u8').then(response => response.status)")
        assert status == 403
    finally:
        stranger.close()

    for viewer, days in (("first", 1), ("second", 2)):
        browser = Chromium(tmp_path / viewer, node.ca)
        try:
            for name, value in cookies(key, f"https://{node.https}/films/42/*", days).items():
                browser.set_cookie(f"https://{node.https}", "/films/", name, value)
            browser.open(f"https://{node.https}/index.html")
            played = browser.evaluate(PLAYED.replace("SECONDS_TO_PLAY", "3"))
            browser.screenshot(artifacts / f"hls-{viewer}.png")
            assert played > 3
            # All is buffered ahead, so the second viewer needs what the first one has brought.
            assert browser.evaluate(BUFFERED) == pytest.approx(SECONDS, abs=0.5)
        finally:
            browser.close()

    # Of the stranger one, of each viewer the list and what is on it.
    records = node.wait_for_records(1 + 2 * (1 + len(segments)), route="films")
    records = [record for record in records if record["path"].endswith(".ts")]
    assert {record["protocol"] for record in records} == {"h2"}
    # Lines are written in batches, those of one connection before or after those of another.
    outcomes = sorted((record["path"], record["outcome"]) for record in records)
    assert outcomes == [(f"/films/42/{name}", outcome) for name in segments for outcome in ("hit", "miss")]
    asked = [path for path, _ in Origin.seen if path.startswith("/films/")]
    assert len(asked) == len(set(asked)) == len(segments) + 1
    assert not any(cookie for _, cookie in Origin.seen), "the origin needs no cookie of ours"
    server.shutdown()


BUFFERED = """
new Promise((resolve, reject) => {
  const end = () => video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0;
  const look = () => { if (fatal) reject(new Error(fatal)); else if (end() > video.duration - 0.5) resolve(end()); };
  hls.on(Hls.Events.BUFFER_APPENDED, look);
  hls.on(Hls.Events.BUFFER_EOS, look);
  look();
})
"""


def cookies(key, resource, days):
    """A custom policy for `resource` as CloudFront's documentation has it, with a signature of SHA-1."""
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    condition = {"DateLessThan": {"AWS:EpochTime": int(expires.timestamp())}}
    policy = json.dumps({"Statement": [{"Resource": resource, "Condition": condition}]}, separators=(",", ":")).encode()
    signature = key.sign(policy, padding.PKCS1v15(), hashes.SHA1())
    return {
        "CloudFront-Policy": url_alphabet(policy),
        "CloudFront-Signature": url_alphabet(signature),
        "CloudFront-Key-Pair-Id": "VIEWERS",
    }


def url_alphabet(data):
    return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))
