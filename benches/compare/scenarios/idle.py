"""What ten thousand clients cost that have asked once and keep their connection."""

import subprocess
import sys

import check
import measure
from content import KIB, MIB
from place import HERE, CompareError, raise_open_files
from scenarios.model import Scenario
from servers.process import Setup

TARGET = f"/body/{KIB}"
# Files of a server that are no connections of clients; some servers want two files for each connection.
SPARE_FILES = 400


class Idle(Scenario):
    group = "idle"
    setup = Setup("idle", memory_bytes=64 * MIB)
    fresh = True
    rounds = 3
    unit = "connection"
    aim_figure = "memory per connection"

    def __init__(self, scale, scheme):
        self._scheme = scheme
        self._count = min(scale.pick(10_000, 200), (raise_open_files() - SPARE_FILES) // 2)
        self.needs = frozenset({scheme})
        self.name = f"{scheme.upper()} h1, {self._count:,} idle connections"

    @staticmethod
    def figure_of(sample):
        return sample.more["bytes_per_connection"]

    def prepare(self, bench):
        self._sha256 = bench.content.make(TARGET, KIB)

    def warm(self, bench, server):
        for _ in range(3):
            check.expect(bench.place, server.url(self._scheme, TARGET), KIB, self._sha256)

    def run(self, bench, server):
        port = server.tls_port if self._scheme == "https" else server.plain_port
        before_cpu = measure.cpu_ns(server.pids())
        before = measure.resident_kib(server.pids())
        words = [sys.executable, HERE / "clients/idle.py", self._scheme, port, TARGET, self._count, self._sha256]
        client = bench.generator.start(words, stdout=subprocess.PIPE)
        try:
            said = client.stdout.readline()
            if not said.startswith("open "):
                raise CompareError(f"the idle clients ended early: {said}")
            pids = server.pids()
            resident = measure.resident_kib(pids)
            spent = measure.cpu_spent_ns(before_cpu, measure.cpu_ns(pids))
        finally:
            client.terminate()
            client.wait()
        return measure.Sample(
            requests=self._count,
            seconds=float(said.split()[1]),
            cpu_ns=spent,
            resident_kib=resident,
            more={"bytes_per_connection": (resident - before) * KIB / self._count},
        )

    def summary(self, samples):
        sizes = sorted(sample.more["bytes_per_connection"] for sample in samples)
        return f"{sizes[len(sizes) // 2] / KIB:.1f} KiB for each connection"


def scenarios(scale):
    yield Idle(scale, "http")
    yield Idle(scale, "https")
