"""Ranges of cold objects: what they cost the origin, and several of them at once. Figures are printed."""

import email
import email.policy
import http.client
import os
import random

import pytest

from harness import s3
from harness.curl import curl
from harness.s3 import KIB, MIB
from harness.scripted_origin import GeneratedOrigin, content

BLOCK_BYTES = 256 * KIB
GIB = KIB * MIB

# What is played back, in bytes; a film takes longer than the suites have time for.
PLAYBACK_BYTES = int(os.environ.get("PLAYBACK_BYTES", 512 * MIB))

LANES = {"h1": ("http", "--http1.1"), "h1-tls": ("https", "--http1.1"), "h2": ("https", "--http2")}


class Player:
    """One connection that asks for range after range and compares every byte."""

    def __init__(self, address, size):
        self.connection = http.client.HTTPConnection(address, timeout=60)
        self.size = size
        self.bytes = self.count = 0

    def read(self, start, end):
        self.connection.request("GET", "/film", headers={"Range": f"bytes={start}-{end - 1}"})
        response = self.connection.getresponse()
        body = response.read()
        end = min(end, self.size)
        assert response.status == 206
        assert response.getheader("content-range") == f"bytes {start}-{end - 1}/{self.size}"
        assert body == content(start, end), f"{start}-{end - 1} holds other bytes"
        self.bytes += len(body)
        self.count += 1


def test_seeks_in_a_cold_object_cost_two_blocks_more_than_is_watched(launch):
    size = 2 * GIB
    seed = 20260101
    chance = random.Random(seed)
    with GeneratedOrigin(size) as origin:
        edge = launch.edge([origin.address])
        player = Player(edge.http, size)
        for _ in range(50):
            start = chance.randrange(size - MIB)
            player.read(start, start + MIB)
        limit = player.bytes + 2 * BLOCK_BYTES * player.count
        print(
            f"50 random ranges of 1 MiB of a cold 2 GiB object (seed {seed}): {player.bytes} bytes to the client, "
            f"{origin.bytes_sent} from the origin in {len(origin.requests)} requests, allowed {limit}"
        )
        assert origin.bytes_sent <= limit


@pytest.mark.parametrize("sizes", ["1 MiB", "333,333 bytes", "100,000 bytes", "1 byte to 3 MiB"])
def test_playback_in_ranges_fetches_an_object_once(launch, sizes):
    size = PLAYBACK_BYTES
    seed = 20260102
    chance = random.Random(seed)
    next_size = {
        "1 MiB": lambda: MIB,
        "333,333 bytes": lambda: 333_333,
        # Far smaller than a block: each must still be there for the next ranges.
        "100,000 bytes": lambda: 100_000,
        "1 byte to 3 MiB": lambda: chance.randint(1, 3 * MIB),
    }[sizes]
    with GeneratedOrigin(size) as origin:
        # The object does not fit: what was played may be evicted behind the player.
        edge = launch.edge([origin.address], memory="64MiB")
        player = Player(edge.http, size)
        start = 0
        while start < size:
            end = min(start + next_size(), size)
            player.read(start, end)
            start = end
        print(
            f"{size} bytes played in {player.count} ranges of {sizes} (seed {seed}): {origin.bytes_sent} bytes from the "
            f"origin in {len(origin.requests)} requests, {origin.bytes_sent / size:.4f} of the object"
        )
        assert origin.bytes_sent <= 1.05 * size


@pytest.mark.parametrize("lane", LANES)
def test_several_ranges_come_as_parts_cold_and_warm(node, lane):
    """Taken apart by Python's own parser of MIME messages."""
    scheme, option = LANES[lane]
    address = node.http if scheme == "http" else node.https
    key, body = f"parts-{lane}", s3.content(8 * MIB, f"parts-{lane}")
    s3.client(node.s3).put_object(Bucket="suite", Key=key, Body=body, ContentType="video/mp4")
    url = s3.presign(address, "suite", key, scheme=scheme)
    size = len(body)
    spans = [(5 * MIB, 5 * MIB + 300_000), (0, 100), (size - 1, size)]
    asked = ",".join(f"{start}-{end - 1}" for start, end in spans[:2]) + ",-1"
    for is_warm in (False, True):
        reply = curl(url, option, "--range", asked, ca=node.ca)
        assert (reply.status, reply.is_hit) == (206, is_warm)
        assert "content-range" not in reply.fields
        assert int(reply.fields["content-length"]) == len(reply.body)
        head = f"Content-Type: {reply.fields['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + reply.body, policy=email.policy.HTTP)
        assert message.get_content_type() == "multipart/byteranges"
        assert not message.defects
        parts = [(part["content-range"], part.get_content_type()) for part in message.iter_parts()]
        assert parts == [(f"bytes {start}-{end - 1}/{size}", "video/mp4") for start, end in spans]
        # The parser reads text; where the bytes are is told by the parts' heads.
        for start, end in spans:
            opening = f"Content-Range: bytes {start}-{end - 1}/{size}\r\n\r\n".encode()
            _, found, rest = reply.body.partition(opening)
            assert found and rest.startswith(body[start:end] + b"\r\n--")
