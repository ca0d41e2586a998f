"""An origin in Python: one object of any size that is made as it is read, with ranges and a count of requests."""

import http.server
import re
import threading

from .s3 import KIB

# Every chunk of an object begins with its own number, so that bytes at the wrong place are noticed.
CHUNK_BYTES = 64 * KIB
_NUMBER_BYTES = 8
_FILLING = (bytes(range(256)) * (CHUNK_BYTES // 256))[_NUMBER_BYTES:]


def chunk(number):
    """The bytes of one chunk of a generated object."""
    return number.to_bytes(_NUMBER_BYTES, "big") + _FILLING


def content(start, end):
    """The bytes `start..end` of a generated object."""
    first, last = start // CHUNK_BYTES, -(-end // CHUNK_BYTES)
    chunks = b"".join(chunk(number) for number in range(first, last))
    return chunks[start - first * CHUNK_BYTES : end - first * CHUNK_BYTES]


class GeneratedOrigin:
    """Serves one object of `size` bytes, a multiple of CHUNK_BYTES, under every path."""

    def __init__(self, size):
        assert size % CHUNK_BYTES == 0
        self.size = size
        # The Range field of each request, None when it had none.
        self.requests = []
        # Body bytes handed to the network, those included that the edge never read.
        self.bytes_sent = 0
        # Wakes whoever waits for a request to have come.
        self.changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"origin": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin = None

    def do_GET(self):  # noqa: N802 - the library calls it so
        size = self.origin.size
        asked = self.headers.get("Range")
        with self.origin.changed:
            self.origin.requests.append(asked)
            self.origin.changed.notify_all()
        first, last = 0, size - 1
        if asked:
            begin, end = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("ETag", '"generated"')
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        try:
            self._send(first, last + 1)
        except OSError:
            # The edge may have had enough.
            self.close_connection = True

    def _send(self, start, end):
        while start < end:
            number, offset = divmod(start, CHUNK_BYTES)
            piece = chunk(number)[offset : offset + end - start]
            self.wfile.write(piece)
            with self.origin.changed:
                self.origin.bytes_sent += len(piece)
            start += len(piece)

    def log_message(self, *_):
        """Silent: a test says what matters."""
