"""HTTP/1.1 as bytes: requests go out exactly as they are written, many at a time."""

import socket
from dataclasses import dataclass

# Requests under way at once on one connection. What they and their answers take fits into the sockets' buffers,
# so that neither side waits for the other to read.
BATCH = 32


@dataclass
class Reply:
    status: int
    # By lower-case name; of fields that came more than once, the last.
    fields: dict
    body: bytes

    @property
    def is_hit(self):
        return self.fields.get("cache-status", "").startswith("tidegate; hit")


def request(target, host, *, method="GET", fields=(), body=b""):
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    if body or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection, for any number of requests."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address = host, int(port)
        self._open()

    def _open(self):
        self.socket = socket.create_connection(self.address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", buffering=256 * 1024)

    def exchange(self, requests):
        """The replies to all requests, in order.

        A reply that closes the connection leaves the requests behind it unanswered (RFC 9112 §9.3.2): they are
        sent on another one.
        """
        replies = []
        while len(replies) < len(requests):
            batch = requests[len(replies) : len(replies) + BATCH]
            try:
                self.socket.sendall(b"".join(batch))
            except (BrokenPipeError, ConnectionResetError):
                # It was closed while more was on its way: why, its last reply says.
                pass
            for sent in batch:
                replies.append(self._read(sent))
                if replies[-1].fields.get("connection") == "close":
                    self.close()
                    self._open()
                    break
        return replies

    def ask(self, *arguments, **options):
        """The reply to one request."""
        (reply,) = self.exchange([request(*arguments, **options)])
        return reply

    def _read(self, sent):
        line = self.file.readline()
        assert line, f"closed instead of an answer to {sent[:300]!r}"
        status = int(line.split()[1])
        fields = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        if status == 100:
            return self._read(sent)
        length = 0 if sent.startswith(b"HEAD ") or status in (204, 304) else int(fields["content-length"])
        return Reply(status, fields, self.file.read(length))

    def close(self):
        self.file.close()
        self.socket.close()
