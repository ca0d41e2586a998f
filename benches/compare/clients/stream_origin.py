"""An origin of endless bodies: stream_origin.py PORT

GET /stream/BYTES is answered with that many bytes (content.repeated_pattern). They leave by sendfile from one
file in memory, so that this origin costs little and holds nothing. Each answer ends its connection.
"""

import os
import re
import socketserver
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from content import MIB, repeated_pattern  # noqa: E402

REPEATS = 16


class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        request = self.rfile.readline().decode("latin-1")
        while self.rfile.readline().strip():
            pass
        found = re.match(r"GET /stream/(\d+)(?:/\S*)? HTTP", request)
        if not found:
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        left = int(found.group(1))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nETag: \"{left}\"\r\nConnection: close\r\n"
        self.wfile.write((head + "Cache-Control: public, max-age=86400\r\n\r\n").encode())
        try:
            while left > 0:
                offset = 0
                part = min(left, REPEATS * MIB)
                while offset < part:
                    offset += os.sendfile(self.connection.fileno(), self.server.body, offset, part - offset)
                left -= part
        except (BrokenPipeError, ConnectionResetError):
            # The server that asked has gone, as it may.
            return


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main():
    with Server(("127.0.0.1", int(sys.argv[1])), Stream) as server:
        server.body = os.memfd_create("body")
        for part in repeated_pattern(REPEATS * MIB):
            os.write(server.body, part)
        server.serve_forever()


main()
