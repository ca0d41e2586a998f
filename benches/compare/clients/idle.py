"""Connections that ask once and stay: idle.py http|https PORT TARGET COUNT SHA256

Prints "open SECONDS" when all are open and have had their answer, and keeps them until it is ended.
"""

import hashlib
import resource
import signal
import socket
import ssl
import sys
import time


def main():
    scheme, port, target, count, sha256 = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = ssl.create_default_context() if scheme == "https" else None
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    kept = []
    start = time.monotonic()
    for _ in range(int(count)):
        connection = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
        if context:
            connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
        connection.sendall(request)
        if hashlib.sha256(body_of(connection)).hexdigest() != sha256:
            sys.exit("wrong bytes")
        kept.append(connection)
    print(f"open {time.monotonic() - start}", flush=True)
    signal.pause()


def body_of(connection):
    """One answer with a Content-Length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += received(connection)
    return body


def received(connection):
    part = connection.recv(1 << 16)
    if not part:
        sys.exit("a connection was closed")
    return part


main()
