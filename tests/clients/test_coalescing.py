"""Many clients and one cold object; one client and an object larger than the cache. Memory is measured."""

import http.client
import selectors
import socket

import pytest

from harness import s3
from harness.s3 import KIB, MIB
from harness.scripted_origin import CHUNK_BYTES, GeneratedOrigin, chunk
from harness.waiting import Deadline

CLIENTS = 500
# These read nothing until the first of the others is done: they fall out of the window that a fill keeps.
SLOW_CLIENTS = 20
OBJECT_BYTES = 50 * MIB
READ_BYTES = 512 * KIB
END_OF_HEAD = b"\r\n\r\n"


class Client:
    """One connection, one GET; every byte is compared as it comes."""

    def __init__(self, address, target, expected):
        host, port = address.split(":")
        self.expected, self.received = expected, 0
        self.head = b""
        self.complete = False
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        self.socket.setblocking(False)

    def read(self):
        """Takes what is there; afterwards `complete` says whether that was all."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            assert self.received == len(self.expected), f"closed after {self.received} bytes: {self.head!r}"
            self.complete = True
            return
        if not self.head.endswith(END_OF_HEAD):
            head, end, data = (self.head + data).partition(END_OF_HEAD)
            self.head = head + end
            assert self.head.startswith(b"HTTP/1.1 200 "), self.head
        # Compares in place; equality of slices would copy 25 GB.
        assert self.expected.startswith(data, self.received), f"wrong bytes after {self.received}"
        self.received += len(data)

    def close(self):
        self.socket.close()


def _drive(selector, clients, until_complete, deadline):
    """Reads from all of these until so many are complete."""
    while sum(client.complete for client in clients) < until_complete:
        events = selector.select(deadline.left())
        assert events, f"{[client.received for client in clients if not client.complete]} wait for more"
        for key, _ in events:
            key.data.read()
            if key.data.complete:
                selector.unregister(key.fileobj)


@pytest.fixture
def store_and_edge(launch):
    """Two processes, so that the memory that is measured is the edge's alone."""
    store = launch.store()
    # The slow clients of this test are to be waited for, however slow the machine is.
    edge = launch.edge(
        [store.s3], memory="128MiB", access="signed", edge={"timeouts": {"write": "10m"}}
    )
    s3.client(store.s3).create_bucket(Bucket="suite")
    return store, edge


def test_500_clients_of_one_cold_object_cost_the_origin_one_request(store_and_edge):
    store, edge = store_and_edge
    body = s3.content(OBJECT_BYTES, "coalescing")
    s3.client(store.s3).put_object(Bucket="suite", Key="film", Body=body)
    url = s3.presign(edge.http, "suite", "film")
    target = url.removeprefix(f"http://{edge.http}")
    before = edge.memory_kib("VmRSS")
    edge.reset_memory_peak()
    clients = [Client(edge.http, target, body) for _ in range(CLIENTS)]
    slow, fast = clients[:SLOW_CLIENTS], clients[SLOW_CLIENTS:]
    try:
        deadline = Deadline(240)
        with selectors.DefaultSelector() as selector:
            for client in fast:
                selector.register(client.socket, selectors.EVENT_READ, client)
            _drive(selector, fast, 1, deadline)
            peak_fast = edge.memory_kib()
            for client in slow:
                selector.register(client.socket, selectors.EVENT_READ, client)
            _drive(selector, clients, CLIENTS, deadline)
    finally:
        for client in clients:
            client.close()
    peak = edge.memory_kib()
    print(
        f"{CLIENTS} clients ({SLOW_CLIENTS} of them slow) of {OBJECT_BYTES // MIB} MiB: {edge.origin_requests():.0f} "
        f"origin request; resident {before // 1024} MiB before, {peak_fast // 1024} MiB at most while it was "
        f"filled, {peak // 1024} MiB at most in all (memory tier 128 MiB)"
    )
    assert all(client.received == OBJECT_BYTES for client in clients)
    assert edge.origin_requests() == 1
    records = edge.wait_for_records(CLIENTS, path="/suite/film")
    assert {record["status"] for record in records} == {200}
    # One asked; everybody else was collapsed into that or came when it was stored.
    assert sum(record["outcome"] == "miss" and not record["collapsed"] for record in records) == 1
    # The object once in the tier and once in the fill's window, and 256 KiB for every connection.
    assert peak < before + (2 * OBJECT_BYTES + CLIENTS * 256 * KIB) // KIB


def test_whoever_has_read_an_object_finds_it_stored_at_once(store_and_edge):
    """Pairs of requests on one connection, the second right after the last byte of the first."""
    store, edge = store_and_edge
    client = s3.client(store.s3)
    connection = http.client.HTTPConnection(edge.http, timeout=30)
    late = []
    for number in range(300):
        client.put_object(Bucket="suite", Key=f"pair-{number}", Body=b"p" * (number * 1000))
        target = s3.presign(edge.http, "suite", f"pair-{number}").removeprefix(f"http://{edge.http}")
        for is_second in (False, True):
            connection.request("GET", target)
            response = connection.getresponse()
            assert len(response.read()) == number * 1000
            is_hit = response.getheader("cache-status").startswith("tidegate; hit")
            assert is_second or not is_hit
        if not is_hit:
            late.append(response.getheader("cache-status"))
    connection.close()
    assert late == [], f"{len(late)} of 300"


def test_an_object_larger_than_the_cache_streams_in_bounded_memory(launch):
    size = 2 * KIB * MIB
    with GeneratedOrigin(size) as origin:
        edge = launch.edge([origin.address], memory="64MiB")
        before = edge.memory_kib("VmRSS")
        edge.reset_memory_peak()
        host, port = edge.http.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(f"GET /huge HTTP/1.1\r\nHost: {edge.http}\r\nConnection: close\r\n\r\n".encode())
            stream = client.makefile("rb", buffering=MIB)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            buffer = bytearray(CHUNK_BYTES)
            for number in range(size // CHUNK_BYTES):
                count = stream.readinto(buffer)
                assert count == CHUNK_BYTES, f"chunk {number} ended after {count} bytes"
                assert buffer == chunk(number), f"chunk {number} holds other bytes"
            assert stream.read(1) == b""
        peak = edge.memory_kib()
        print(
            f"2 GiB through a memory tier of 64 MiB: resident {before // 1024} MiB before, at most "
            f"{peak // 1024} MiB; the origin was asked for {origin.requests}"
        )
        assert origin.requests == [None]
        assert peak < before + 128 * KIB


def test_a_range_of_an_object_larger_than_the_cache_is_fetched_alone(launch):
    size = 2 * KIB * MIB
    with GeneratedOrigin(size) as origin:
        edge = launch.edge([origin.address], memory="64MiB")
        number = size // CHUNK_BYTES - 100
        first = number * CHUNK_BYTES
        with socket.create_connection(tuple(edge.http.split(":")), timeout=30) as connection:
            connection.sendall(
                f"GET /huge HTTP/1.1\r\nHost: {edge.http}\r\nRange: bytes={first}-{first + CHUNK_BYTES - 1}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            reply = connection.makefile("rb").read()
        head, _, body = reply.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 ")
        assert body == chunk(number)
        (asked,) = origin.requests
        # Blocks of 256 KiB around it, and one of read-ahead.
        begin, end = map(int, asked.removeprefix("bytes=").split("-"))
        assert begin <= first and end >= first + CHUNK_BYTES - 1
        assert end - begin + 1 <= 3 * 256 * KIB
