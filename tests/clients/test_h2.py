"""HTTP/2 frame by frame: what no well-meaning client sends."""

import socket
import ssl

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from harness.s3 import KIB
from harness.scripted_origin import GeneratedOrigin, content

SIZE = 256 * KIB
PUBLIC = [{"name": "media", "path": "/", "origin": "store", "access": "public"}]


class Connection:
    """One TLS connection; frames leave when they are flushed."""

    def __init__(self, node):
        host, port = node.https.split(":")
        context = ssl.create_default_context(cafile=str(node.ca))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), timeout=30)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.authority = node.https
        self.frames = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.frames.initiate_connection()

    def ask(self, path):
        """Opens a stream; says which."""
        stream = self.frames.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        self.frames.send_headers(stream, fields, end_stream=True)
        return stream

    def flush(self):
        self.socket.sendall(self.frames.data_to_send())

    def events(self):
        """All that comes, until the other side closes."""
        while data := self.socket.recv(64 * KIB):
            yield from self.frames.receive_data(data)
            self.flush()

    def answer(self, stream):
        """Status and body of a response; fails when the connection ends before."""
        status, body = None, b""
        for event in self.events():
            match event:
                case h2.events.ResponseReceived(stream_id=id, headers=fields) if id == stream:
                    status = int(dict(fields)[b":status"])
                case h2.events.DataReceived(stream_id=id, data=data) if id == stream:
                    body += data
                    self.frames.acknowledge_received_data(event.flow_controlled_length, id)
                    self.flush()
                case h2.events.StreamEnded(stream_id=id) if id == stream:
                    return status, body
        raise AssertionError(f"closed after {len(body)} bytes of {status}")


@pytest.fixture
def origin():
    with GeneratedOrigin(SIZE) as origin:
        yield origin


@pytest.fixture
def node(launch, origin):
    servers = {"store": {"servers": [origin.address]}}
    node = launch.up(edge={"origins": servers, "routes": PUBLIC})
    # What is asked for below is a hit.
    connection = Connection(node)
    stream = connection.ask("/film")
    connection.flush()
    assert connection.answer(stream) == (200, content(0, SIZE))
    return node


def test_requests_that_are_taken_back_at_once_reach_no_origin(node, origin):
    asked = len(origin.requests)
    connection = Connection(node)
    for _ in range(20):
        for _ in range(10):
            taken_back = connection.ask("/film")
            connection.frames.reset_stream(taken_back, h2.errors.ErrorCodes.CANCEL)
        connection.flush()
        stream = connection.ask("/film")
        connection.flush()
        assert connection.answer(stream) == (200, content(0, SIZE))
    assert len(origin.requests) == asked


def test_requests_of_a_connection_that_is_closed_at_once_reach_no_origin(node, origin):
    asked = len(origin.requests)
    for _ in range(40):
        connection = Connection(node)
        for _ in range(50):
            connection.ask("/film")
        connection.flush()
        connection.socket.close()
    # Comes after all of them.
    connection = Connection(node)
    stream = connection.ask("/film")
    connection.flush()
    assert connection.answer(stream) == (200, content(0, SIZE))
    assert len(origin.requests) == asked


def test_client_that_takes_back_too_much_is_cut_off_and_the_others_are_served(node, origin):
    connection = Connection(node)
    for _ in range(90):
        connection.frames.reset_stream(connection.ask("/film"), h2.errors.ErrorCodes.CANCEL)
    connection.flush()
    reasons = [event.error_code for event in connection.events() if isinstance(event, h2.events.ConnectionTerminated)]
    assert reasons == [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM]
    other = Connection(node)
    stream = other.ask("/film")
    other.flush()
    assert other.answer(stream) == (200, content(0, SIZE))


def test_answers_to_requests_that_came_together_are_whole(node):
    connection = Connection(node)
    streams = [connection.ask("/film") for _ in range(8)]
    connection.flush()
    bodies = {stream: b"" for stream in streams}
    for event in connection.events():
        match event:
            case h2.events.DataReceived(stream_id=stream, data=data):
                bodies[stream] += data
                connection.frames.acknowledge_received_data(event.flow_controlled_length, stream)
                connection.flush()
            case h2.events.StreamEnded(stream_id=stream):
                assert bodies.pop(stream) == content(0, SIZE)
                if not bodies:
                    return
    raise AssertionError(f"closed with {len(bodies)} answers left")
