"""Random ranges of one large object that is in the cache."""

import hashlib
import random

import check
from content import GIB, KIB, MIB
from place import CompareError
from scenarios.model import Scenario, measured
from servers.process import Setup

CHECKED = 4


class Ranges(Scenario):
    group = "range"
    name = "HTTP h1, random ranges of 1 MiB in 1 GiB"
    needs = frozenset({"http", "ranges"})

    def __init__(self, scale):
        self._size = scale.pick(GIB, 8 * MIB)
        self._length = scale.pick(MIB, 200 * KIB)
        self.setup = Setup("ranges", memory_bytes=2 * self._size)
        self._target = f"/large/{self._size}"

    def prepare(self, bench):
        self._sha256 = bench.content.make(self._target, self._size)

    def warm(self, bench, server):
        url = server.url("http", self._target)
        check.expect(bench.place, url, self._size, self._sha256)
        before = bench.origin.requests()
        chooser = random.Random(7)
        for _ in range(CHECKED):
            first = chooser.randrange(self._size - self._length)
            part = bench.content.part(self._target, first, self._length)
            byte_range = f"{first}-{first + self._length - 1}"
            wanted = hashlib.sha256(part).hexdigest()
            check.expect(bench.place, url, self._length, wanted, status=206, byte_range=byte_range)
        if bench.origin.requests() != before:
            raise CompareError(f"{server.name} asked the origin for ranges of an object that it has")

    def run(self, bench, server):
        # All servers get the same ranges in the same order.
        arguments = [self._target, str(self._size), str(self._length), "7"]
        return measured(
            bench,
            server,
            lambda: bench.generator.wrk(
                server.url("http", self._target), 8, bench.scale.seconds, "ranges.lua", arguments
            ),
            origin_requests="none",
            least_bytes=self._length,
        )


def scenarios(scale):
    yield Ranges(scale)
