"""Connects anew for every request: handshakes.py full|resumed PORT TARGET SECONDS SHA256

A resumed handshake uses the ticket that came with the answer before. What is not as it was asked for, or has
other bytes, is counted as wrong. Prints one JSON object; times are those of the handshakes.
"""

import hashlib
import json
import socket
import ssl
import sys
import time


def main():
    kind, port, target, seconds, sha256 = sys.argv[1:]
    context = ssl.create_default_context()
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    times, wrong, received = [], 0, 0
    session = None
    if kind == "resumed":
        _, _, _, session = one(context, int(port), request, None)
    start = time.monotonic()
    while time.monotonic() - start < float(seconds):
        took, resumed, answer, ticket = one(context, int(port), request, session)
        if kind == "resumed":
            session = ticket
        times.append(took)
        received += len(answer)
        body = answer.partition(b"\r\n\r\n")[2]
        wrong += resumed != (kind == "resumed") or hashlib.sha256(body).hexdigest() != sha256
    spent = time.monotonic() - start
    times.sort()
    found = {
        "handshakes": len(times),
        "wrong": wrong,
        "bytes": received,
        "seconds": spent,
        "p50_us": times[len(times) // 2] * 1e6,
        "p99_us": times[len(times) * 99 // 100] * 1e6,
    }
    print(json.dumps(found))


def one(context, port, request, session):
    """One connection; returns the time of its handshake, whether it was resumed, the answer, and the next ticket."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        start = time.monotonic()
        with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection:
            took = time.monotonic() - start
            resumed = bool(connection.session_reused)
            connection.sendall(request)
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
            return took, resumed, b"".join(parts), connection.session


main()
