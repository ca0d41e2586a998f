#!/usr/bin/env python3
"""How much memory the process takes for what the memory tier holds.

    benches/hit_path/resident.py [BINARY]

For each size of object: starts the binary (by default that of the release profile) with 256 MiB of memory, has it fetch half as
much again over four connections, and prints what it holds by its own count and what is resident. Resident should be at most 1.15
times the one and 64 MiB more; a size for which it is not is named, and is the exit code.
"""

import re
import socket
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from instructions import HERE, configure, free_port, serving

BINARY = HERE.parent.parent / "target/release/tidegate"
MIB = 1 << 20
LIMIT = 256 * MIB
SIZES = [100, 1024, 10 * 1024, 100 * 1024, MIB, 10 * MIB]
CONNECTIONS = 4
# About what an object costs beside its body: more are asked for than fit.
OVERHEAD = 1200


class Origin:
    """Answers `/SIZE/NUMBER` with so many bytes."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                head, received = received.split(b"\r\n\r\n", 1)
                size = int(head.split(b"/")[1])
                fields = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: max-age=86400\r\n"
                fields += b'ETag: "a"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n'
                connection.sendall(fields + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)


def main():
    binary = Path(sys.argv[1]) if len(sys.argv) > 1 else BINARY
    origin = Origin()
    wrong = []
    print("     body       held   own count   resident   at most")
    for size in SIZES:
        held, own, resident = measured(binary, origin, size)
        bound = 1.15 * own + 64 * MIB
        print(f"{size:>9}  {held:>9}  {own / MIB:>6.0f} MiB {resident / MIB:>6.0f} MiB {bound / MIB:>5.0f} MiB")
        if resident > bound:
            wrong.append(size)
    if wrong:
        sys.exit(f"more is resident than should be for bodies of {wrong} bytes")


def measured(binary, origin, size):
    """Responses held, the bytes that they take by the tier's own count, and those that are resident."""
    with tempfile.TemporaryDirectory() as folder:
        edge, admin = free_port(), free_port()
        config = configure(folder, edge, admin, origin, f"cache: {{ memory: {LIMIT // MIB}MiB }}")
        with serving(str(binary), "edge", "--config", str(config)) as (process, _):
            fill(edge, size, LIMIT * 3 // 2 // (size + OVERHEAD))
            gauges = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
            status = Path(f"/proc/{process.pid}/status").read_text()
    held = gauge(gauges, "tidegate_cache_objects")
    return held, gauge(gauges, "tidegate_cache_bytes"), int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def gauge(gauges, name):
    return int(float(re.search(name + r'\{tier="memory"\} (\S+)', gauges)[1]))


def fill(port, size, total):
    """Asks once for each of `total` objects."""
    shares = [range(first, total, CONNECTIONS) for first in range(CONNECTIONS)]
    threads = [threading.Thread(target=fill_share, args=(port, size, share)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fill_share(port, size, share):
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        for number in share:
            connection.sendall(b"GET /%d/%d HTTP/1.1\r\nHost: media.example\r\n\r\n" % (size, number))
            while answers.readline() != b"\r\n":
                pass
            if len(answers.read(size)) != size:
                raise SystemExit("the edge broke off")


if __name__ == "__main__":
    main()
