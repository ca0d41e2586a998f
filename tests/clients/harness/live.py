"""A camera: ffmpeg encodes a test picture as fast as it happens, and sends it as live senders do."""

import subprocess
import threading
import time

FRAMES_PER_SECOND = 24
# The one who may write, as an encoder can say it that cannot sign: by a field that only it knows.
REFERER = "https://encoder.example/only-the-suites-know-it"

_PICTURE = ["-re", "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={FRAMES_PER_SECOND}"]


def _encoder(fragment_seconds):
    frames = round(FRAMES_PER_SECOND * fragment_seconds)
    words = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
    return [*words, "-profile:v", "baseline", "-g", str(frames), "-keyint_min", str(frames), "-sc_threshold", "0"]


class Camera:
    """A running ffmpeg. `began` is when it was started, which is before its first picture: what a viewer sees at
    position t of the film is not older than `began + t`."""

    def __init__(self, words, **options):
        self.began = time.time()
        command = ["ffmpeg", "-v", "warning", "-nostdin", *_PICTURE, *words]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
        self._complaints = []
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self):
        self._complaints.extend(line.decode(errors="replace").rstrip() for line in self.process.stderr)

    def close(self):
        """Ends it; what it has complained about."""
        self.process.terminate()
        self.process.wait(10)
        self._listening.join(10)
        return self._complaints


def segments_by_put(url, segment_seconds=1):
    """HLS with CMAF segments: each is PUT, and the playlist after each, below `url`."""
    words = [*_encoder(segment_seconds), "-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", str(segment_seconds)]
    words += ["-hls_list_size", "6", "-hls_flags", "program_date_time", "-method", "PUT", "-http_persistent", "1"]
    words += ["-headers", f"Referer: {REFERER}\r\n", "-hls_segment_filename", f"{url}/%d.m4s", f"{url}/live.m3u8"]
    return Camera(words)


def fragments(fragment_seconds=0.5):
    """One film in CMAF fragments on standard output; see `pieces`."""
    words = [*_encoder(fragment_seconds), "-f", "mp4", "-movflags", "cmaf+frag_keyframe+default_base_moof", "-"]
    return Camera(words, stdout=subprocess.PIPE)


def pieces(stream):
    """The pieces of a film as they can be played one by one: the head, and then each fragment with its media."""
    piece = b""
    while len(head := stream.read(8)) == 8:
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        body = stream.read(size - 8)
        if len(body) < size - 8:
            return
        piece += head + body
        if kind in (b"moov", b"mdat"):
            yield piece
            piece = b""
