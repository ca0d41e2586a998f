"""Bodies far larger than any cache: what they take of memory, and what they do to small hits beside them."""

import hashlib
import subprocess

import check
import measure
from content import GIB, KIB, MIB, repeated_pattern
from place import CompareError
from scenarios.model import Scenario, measured
from servers.process import Setup

# Little memory for the cache, so that what is kept of the body does not count as what it takes to stream it.
SETUP = Setup("stream", memory_bytes=8 * MIB)
TARGET = f"/body/{KIB}"


class Stream(Scenario):
    group = "stream"
    setup = SETUP
    fresh = True
    rounds = 1
    unit = "GiB"
    aim_figure = "growth of memory"

    def __init__(self, scale):
        self._size = scale.pick(10 * GIB, 16 * MIB)
        self.name = "HTTP h1, a body of 10 GiB streams"

    @staticmethod
    def figure_of(sample):
        return sample.more["peak_growth_kib"]

    def prepare(self, bench):
        digest = hashlib.sha256()
        for part in repeated_pattern(self._size):
            digest.update(part)
        self._sha256 = digest.hexdigest()

    def run(self, bench, server):
        sizes = measure.begin_memory_peak(server.pids())
        before = measure.cpu_ns(server.pids())
        start = measure.now()
        check.expect(bench.place, server.url("http", f"/stream/{self._size}"), self._size, self._sha256)
        return measure.Sample(
            requests=self._size / GIB,
            seconds=measure.now() - start,
            cpu_ns=measure.cpu_spent_ns(before, measure.cpu_ns(server.pids())),
            resident_kib=measure.resident_kib(server.pids()),
            more={"peak_growth_kib": measure.memory_peak_growth_kib(sizes)},
        )

    def summary(self, samples):
        return f"memory grew by {samples[0].more['peak_growth_kib'] / KIB:.1f} MiB at most"


class Beside(Scenario):
    group = "stream"
    name = "HTTP h1, p99 of 1 KiB hits beside a download of 10 GiB"
    setup = SETUP
    aim_figure = "p99"

    def __init__(self, scale):
        self._rate = scale.pick(2000, 300)
        self._connections = 16

    @staticmethod
    def figure_of(sample):
        return sample.p99_us

    def prepare(self, bench):
        self._sha256 = bench.content.make(TARGET, KIB)

    def warm(self, bench, server):
        for _ in range(3):
            check.expect(bench.place, server.url("http", TARGET), KIB, self._sha256)

    def run(self, bench, server):
        alone = self._hits(bench, server)
        url = server.url("http", f"/stream/{1000 * GIB}")
        words = ["curl", "--silent", "--dump-header", "-", "--output", "/dev/null", url]
        download = bench.generator.start(words, stdout=subprocess.PIPE)
        try:
            _wait_for_first_byte(download)
            sample = measured(bench, server, lambda: self._hits(bench, server), origin_requests="none")
            if download.poll() is not None:
                raise CompareError(f"the download through {server.name} ended with {download.returncode}")
        finally:
            download.terminate()
            download.wait()
        sample.more["p99_alone_us"] = alone.p99_us
        return sample

    def _hits(self, bench, server):
        count = round(self._rate * bench.scale.seconds)
        log = server.folder / "h2load.log"
        url = server.url("http", TARGET)
        return bench.generator.h2load(url, self._connections, 1, count, log, h1=True, rate=self._rate)

    def summary(self, samples):
        times = sorted(sample.more["p99_alone_us"] for sample in samples)
        return f"p99 without the download: {times[len(times) // 2]:,.0f} µs; CPU is that of both"


def _wait_for_first_byte(download):
    """The body follows the head, of which curl prints the first line when it is there."""
    line = download.stdout.readline()
    if " 200" not in line:
        raise CompareError(f"the download began with {line!r}")


def scenarios(scale):
    yield Stream(scale)
    yield Beside(scale)
