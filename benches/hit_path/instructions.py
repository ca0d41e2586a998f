#!/usr/bin/env python3
"""How many instructions a hit from memory takes, and a miss, counted by callgrind: no clock has a say in it.

    benches/hit_path/instructions.py [BINARY] [--write]

Starts the binary (by default that of the dev profile) under valgrind, asks for the same 1 KiB object, or for
one after the other, N times and then, with a new process, 2 N times over one connection, and divides the
difference. What the process does before and after falls away, but for what it does with each object that it
holds. Kernel time is not counted.

The counts of the dev profile are kept in `instructions.json` beside this file, for `tests/clients` to
compare with; `--write` brings them up to date. A change that makes hits cheaper should do so too.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE / "instructions.json"
BINARY = HERE.parent.parent / "target/debug/tidegate"

REQUESTS = 2000
BODY = b"x" * 1024
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n"
    b'ETag: "6a-400"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n'
    b"Cache-Control: max-age=86400\r\n\r\n%s" % (len(BODY), BODY)
)
REQUEST = b"GET %s HTTP/1.1\r\nHost: media.example\r\nUser-Agent: instructions/1\r\nAccept: */*\r\n\r\n"


def hot(_number):
    """The path of each request for the one object that everybody asks for."""
    return b"/1k"


# What is counted: a name, the lines that it adds to the configuration, and the path of each request.
CASES = {
    "hit": ("access_log: off", hot),
    "hit, with access log": ("access_log: access.log", hot),
    "miss": ("access_log: off", lambda number: b"/1k-%06d" % number),
}


def instructions_per_request(binary, case, requests=REQUESTS):
    """The instructions of one request."""
    setting, path = CASES[case]
    counts = [total(binary, setting, path, count) for count in (requests, 2 * requests)]
    return round((counts[1] - counts[0]) / requests)


def total(binary, setting, path, requests):
    """The instructions of a whole process that answers so many requests, and one before them."""
    with tempfile.TemporaryDirectory() as folder, Origin() as origin:
        edge, admin = free_port(), free_port()
        config = configure(folder, edge, admin, origin, setting)
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        with serving(*command, str(binary), "edge", "--config", str(config)) as (_, said):
            ask(edge, path, requests + 1)
        collected = re.search(r"Collected : (\d+)", "".join(said))
        if collected is None:
            raise RuntimeError("callgrind told no number:\n" + "".join(said))
        expected = len({path(number) for number in range(requests + 1)})
        assert origin.requests == expected, f"{origin.requests} requests went to the origin"
        return int(collected[1])


@contextmanager
def serving(*command):
    """An edge that serves until the end of the block, and the list of what it says, which is whole behind it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "RUST_LOG"},
        text=True,
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.rstrip().endswith("ready"):
                break
        else:
            raise RuntimeError("the edge did not start:\n" + "".join(said))
        # Read on, so that it never waits for somebody who does.
        reading = threading.Thread(target=lambda: said.extend(process.stderr))
        reading.start()
        yield process, said
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
    reading.join()


def configure(folder, edge, admin, origin, setting, workers=1):
    """Writes the configuration of an edge with so many workers, and gives its path."""
    config = Path(folder) / "tidegate.yaml"
    config.write_text(
        f"admin: {{ address: 127.0.0.1:{admin} }}\n"
        "edge:\n"
        f"  workers: {workers}\n"
        f"  {setting}\n"
        f"  listeners: [ {{ address: 127.0.0.1:{edge} }} ]\n"
        f"  origins: {{ store: {{ servers: [ 127.0.0.1:{origin.port} ] }} }}\n"
        "  routes: [ { path: /, origin: store, access: public } ]\n"
    )
    return config


def ask(port, path, times):
    """Sends one request after the other and checks that each is answered whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(times):
            connection.sendall(REQUEST % path(number))
            response = b""
            while not response.endswith(BODY):
                received = connection.recv(65536)
                assert received, "the edge closed the connection"
                response += received
            assert response.startswith(b"HTTP/1.1 200 "), response[:100]


class Origin:
    """Answers every request alike, and counts them."""

    def __enter__(self):
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                _, received = received.split(b"\r\n\r\n", 1)
                self.requests += 1
                connection.sendall(RESPONSE)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main():
    write = "--write" in sys.argv
    binaries = [argument for argument in sys.argv[1:] if argument != "--write"]
    binary = Path(binaries[0]) if binaries else BINARY
    counted = {}
    for name in CASES:
        counted[name] = instructions_per_request(binary, name)
        print(f"{counted[name]:>8} instructions: {name}", flush=True)
    if write:
        KEPT.write_text(json.dumps(counted, indent=2) + "\n")


if __name__ == "__main__":
    main()
