"""How late the latest are: hits of 1 KiB at half of the rate that nginx can reach."""

import check
from content import KIB
from place import CompareError
from scenarios.hits import MEMORY
from scenarios.model import Scenario, measured

TARGET = f"/body/{KIB}"
CONNECTIONS = 32


class Tail(Scenario):
    group = "tail"
    name = "HTTP h1, p99 at half of nginx's highest rate, 1 KiB"
    setup = MEMORY
    aim = 1.0
    aim_figure = "p99"
    _rate = None

    @staticmethod
    def figure_of(sample):
        return sample.p99_us

    def prepare(self, bench):
        self._sha256 = bench.content.make(TARGET, KIB)

    def warm(self, bench, server):
        url = server.url("http", TARGET)
        for _ in range(3):
            check.expect(bench.place, url, KIB, self._sha256)
        if server.name == "nginx":
            seen = bench.generator.wrk(url, CONNECTIONS, bench.scale.seconds)
            self._rate = seen.requests / seen.seconds / 2

    def run(self, bench, server):
        if self._rate is None:
            raise CompareError("without nginx there is no rate to keep to")
        log = server.folder / "h2load.log"
        url = server.url("http", TARGET)
        count = max(CONNECTIONS, round(self._rate * bench.scale.seconds))
        sample = measured(
            bench,
            server,
            lambda: bench.generator.h2load(url, CONNECTIONS, 1, count, log, h1=True, rate=self._rate),
            origin_requests="none",
            least_bytes=KIB,
        )
        sample.more["wanted_per_second"] = self._rate
        return sample


def scenarios(_scale):
    yield Tail()
