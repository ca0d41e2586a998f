"""Misses that are stored: every target is new, the origin is near and fast."""

from content import GIB, KIB, MIB
from scenarios.filling import ask_for, fill
from scenarios.model import Scenario, measured
from servers.process import Setup

# As each is usually run, Tidegate with both tiers; and Tidegate with memory only, as Varnish and HAProxy are.
USUAL = Setup("misses", memory_bytes=256 * MIB, disk_bytes=GIB)
MEMORY = Setup("misses-memory", memory_bytes=256 * MIB)

# So many of the largest fit what the smallest of these caches gives to objects that were asked for once.
ASKED_AGAIN = 16


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
        sample = measured(
            bench,
            server,
            lambda: bench.generator.wrk(
                server.url("http", "/"), self._connections, bench.scale.seconds, "unique.lua", [prefix]
            ),
            origin_requests="all",
            least_bytes=self._size,
        )
        sample.more["asked_again"], sample.more["kept"] = self._kept(bench, server, prefix, sample.requests)
        return sample

    def _kept(self, bench, server, prefix, count):
        """Asks once more for the newest that came whole, and for no more than fit: how many, and how many of them
        come from the cache. A server that does not store in time what it fetches has less to do."""
        numbers = range(max(1, count - self._connections - ASKED_AGAIN), count - self._connections)
        before = bench.origin.requests()
        ask_for(bench, server, [(f"{prefix}{number}", self._size, self._sha256) for number in numbers])
        return len(numbers), len(numbers) - (bench.origin.requests() - before)

    def summary(self, samples):
        asked, kept = (sum(sample.more[name] for sample in samples) for name in ("asked_again", "kept"))
        return f"{100 * kept / asked:.0f} % of {asked} of them were hits afterwards" if asked else ""


def scenarios(scale):
    for setup, needs in ((USUAL, ["disk"]), (MEMORY, [])):
        yield Miss(setup, needs, "1 KiB", KIB, 32, 0.9)
        yield Miss(setup, needs, "1 MiB", scale.pick(MIB, 300 * KIB), 8, 0.9)
