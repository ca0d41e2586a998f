"""Misses that are stored: every target is new, the origin is near and fast."""

from content import GIB, KIB, MIB
from scenarios.filling import fill
from scenarios.model import Scenario, measured
from servers.process import Setup

# As each is usually run, Tidegate with both tiers; and Tidegate with memory only, as Varnish and HAProxy are.
USUAL = Setup("misses", memory_bytes=256 * MIB, disk_bytes=GIB)
MEMORY = Setup("misses-memory", memory_bytes=256 * MIB)


class Miss(Scenario):
    group = "miss"

    def __init__(self, setup, needs, label, size, connections, aim):
        where = "memory and disk" if setup.disk_bytes else "memory only, where there is a choice"
        self.name = f"HTTP h1, miss stored {label} ({where})"
        self.setup = setup
        self.needs = frozenset({"http", *needs})
        self.aim = aim
        self._size, self._connections = size, connections

    def prepare(self, bench):
        self._sha256 = bench.content.make(f"/body/{self._size}", self._size)

    def warm(self, bench, server):
        target = f"/miss/{self._size}/{bench.unique()}"
        fill(bench, server, [(target, self._size, self._sha256)])

    def run(self, bench, server):
        prefix = f"/miss/{self._size}/{bench.unique()}-"
        return measured(
            bench,
            server,
            lambda: bench.generator.wrk(
                server.url("http", "/"), self._connections, bench.scale.seconds, "unique.lua", [prefix]
            ),
            origin_requests="all",
            least_bytes=self._size,
        )


def scenarios(scale):
    for setup, needs in ((USUAL, ["disk"]), (MEMORY, [])):
        yield Miss(setup, needs, "1 KiB", KIB, 32, 0.9)
        yield Miss(setup, needs, "1 MiB", scale.pick(MIB, 300 * KIB), 8, 0.9)
