"""Origins that die in the middle of a body: no client, whatever it speaks, may take what came for the whole."""

import socket
import threading

import pytest

from harness.curl import curl
from harness.s3 import KIB

LANES = {"h1": ("http", "--http1.1"), "h1-tls": ("https", "--http1.1"), "h2": ("https", "--http2")}

# curl's words for a body that ended early: closed short, and a stream that was reset.
CURL_PARTIAL_FILE, CURL_HTTP2_STREAM = 18, 92

HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"
# Beyond every buffer, so that the client has begun to receive.
BODY = b"x" * (600 * KIB)

BEGINNINGS = {
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY,
    "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n" + BODY,
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n",
    "last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n",
}


class DyingOrigin:
    """Answers each request with the same bytes and closes the connection."""

    def __init__(self):
        self.answer = b""
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    received = connection.recv(KIB)
                    # A health check connects and says nothing.
                    if not received:
                        break
                    head += received
                else:
                    self.requests += 1
                    connection.sendall(self.answer)


@pytest.mark.parametrize("lane", LANES)
def test_a_body_that_breaks_off_ends_cleanly_for_nobody(launch, lane):
    origin = DyingOrigin()
    scheme, option = LANES[lane]
    route = {"name": "media", "path": "/", "origin": "store", "access": "public"}
    edge = {"origins": {"store": {"servers": [origin.address]}}, "routes": [route]}
    try:
        node = launch.up(edge=edge)
        address = node.http if scheme == "http" else node.https
        expected = CURL_HTTP2_STREAM if lane == "h2" else CURL_PARTIAL_FILE
        for number, (name, beginning) in enumerate(BEGINNINGS.items()):
            origin.answer = beginning
            for _ in range(2):
                asked = origin.requests
                curl(f"{scheme}://{address}/{number}", option, ca=node.ca, exit_code=expected)
                # Nothing was stored of it.
                assert origin.requests == asked + 1, name
    finally:
        origin.close()
