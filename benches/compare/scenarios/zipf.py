"""A mix of popular and rare objects, and a cache of a tenth of their bytes: who keeps the right ones?

Every server gets the same requests in the same order, and each as much cache. How many of them reach the origin,
and with how many bytes, is read from the origin's log.
"""

import array
import itertools
import random
import sys

import measure
from content import KIB
from place import CompareError, wait_until
from scenarios.filling import fill
from scenarios.model import Scenario
from servers.process import Setup

# By the last digit of the object's number: four in ten are of the first size, and so on.
SIZES = [KIB] * 4 + [4 * KIB] * 3 + [16 * KIB] * 2 + [64 * KIB]
SLOPE = 0.9
CONNECTIONS = 16


class Zipf(Scenario):
    group = "zipf"
    needs = frozenset({"http"})
    fresh = True
    rounds = 1
    aim_figure = "object misses"

    def __init__(self, scale):
        self._objects = scale.pick(200_000, 2_000)
        self._warming = scale.pick(400_000, 1_500)
        self._measured = scale.pick(400_000, 1_500)
        self.name = f"HTTP h1, Zipf mix of {self._objects:,} objects, cache of a tenth"
        self._total = sum(SIZES) * self._objects // len(SIZES)
        self.setup = Setup("zipf", memory_bytes=self._total // 10)

    @staticmethod
    def figure_of(sample):
        return 100 - sample.more["object_hits_percent"]

    def prepare(self, bench):
        self._hashes = {size: bench.content.make(f"/body/{size}", size) for size in set(SIZES)}
        self._sequence = bench.place.folder / "zipf.sequence"
        chooser = random.Random(7)
        weights = list(itertools.accumulate(1 / rank**SLOPE for rank in range(1, self._objects + 1)))
        # Popularity and number are drawn apart, because the number decides the size.
        numbers = list(range(self._objects))
        chooser.shuffle(numbers)
        count = self._warming + self._measured
        drawn = array.array("I", chooser.choices(numbers, cum_weights=weights, k=count))
        if sys.byteorder != "little":
            drawn.byteswap()
        self._sequence.write_bytes(drawn.tobytes())
        self._drawn = drawn

    def warm(self, bench, server):
        some = {self._drawn[0], self._drawn[1]}
        objects = [(f"/zipf/{SIZES[n % 10]}/{n}", SIZES[n % 10], self._hashes[SIZES[n % 10]]) for n in some]
        fill(bench, server, objects)
        self._play(bench, server, 0, self._warming)

    def run(self, bench, server):
        log = bench.origin.zipf_log()
        skipped = log.stat().st_size
        held = server.held_bytes()
        asked = bench.origin.requests()
        before = measure.cpu_ns(server.pids())
        seen = self._play(bench, server, self._warming, self._measured)
        pids = server.pids()
        spent = measure.cpu_spent_ns(before, measure.cpu_ns(pids))
        asked = bench.origin.requests() - asked
        misses, missed_bytes = self._misses(log, skipped, asked)
        drawn = self._drawn[self._warming :]
        asked_bytes = sum(SIZES[number % 10] for number in drawn)
        return measure.Sample(
            requests=seen.requests,
            seconds=seen.seconds,
            cpu_ns=spent,
            p50_us=seen.p50_us,
            p99_us=seen.p99_us,
            resident_kib=measure.resident_kib(pids),
            more={
                "object_hits_percent": 100 * (1 - misses / self._measured),
                "byte_hits_percent": 100 * (1 - missed_bytes / asked_bytes),
                "cache_bytes": self.setup.memory_bytes,
                "held_at_start_bytes": held,
                "held_at_end_bytes": server.held_bytes(),
            },
        )

    def _play(self, bench, server, first, count):
        end = server.folder / "sequence.end"
        end.unlink(missing_ok=True)
        arguments = [self._sequence, str(first), str(count), end, *map(str, SIZES)]

        def until(process):
            wait_until(lambda: end.exists() or process.poll() is not None, "the sequence ends", 3600)

        seen = bench.generator.wrk_until(
            server.url("http", "/"), CONNECTIONS, "sequence.lua", list(map(str, arguments)), until
        )
        # What was under way when the last request was made is not counted.
        if not count - 2 * CONNECTIONS <= seen.requests <= count + 2 * CONNECTIONS:
            raise CompareError(f"{seen.requests} answers to a sequence of {count} requests")
        return seen

    def _misses(self, log, skipped, asked):
        """Requests and bytes of bodies in the origin's log from `skipped` on; waits until it has all of them."""

        def lines():
            with log.open() as file:
                file.seek(skipped)
                found = [line.split() for line in file if line.endswith("\n")]
            return found if len(found) >= asked else None

        found = lines() if asked == 0 else wait_until(lines, f"the origin logs {asked} requests")
        return len(found), sum(int(length) for _, length in found)

    def summary(self, samples):
        more = samples[0].more
        text = f"hits: {more['object_hits_percent']:.1f} % of objects, {more['byte_hits_percent']:.1f} % of bytes"
        held = max(more["held_at_start_bytes"] or 0, more["held_at_end_bytes"] or 0)
        return f"{text}; held up to {100 * held / more['cache_bytes']:.0f} % of its limit" if held else text


def scenarios(scale):
    yield Zipf(scale)
