"""Hits of one object in memory, by size and protocol."""

from dataclasses import dataclass

import check
from content import KIB, MIB
from scenarios.model import Scenario, measured
from servers.process import Setup

MEMORY = Setup("memory", memory_bytes=512 * MIB)
TWO_WORKERS = Setup("two workers", memory_bytes=512 * MIB, workers=2)
LOGGING = Setup("logging", memory_bytes=512 * MIB, access_log=True)

# Label, size, the same in the quick form, connections of HTTP/1.1, connections and streams of HTTP/2. Fewer of
# large ones: what is under way when the time is up was paid for and is not counted.
SIZES = [
    ("1 KiB", KIB, KIB, 32, 8, 4),
    ("10 KiB", 10 * KIB, 10 * KIB, 32, 8, 4),
    ("100 KiB", 100 * KIB, 100 * KIB, 32, 8, 4),
    ("1 MiB", MIB, 300 * KIB, 8, 4, 2),
    ("10 MiB", 10 * MIB, MIB, 4, 2, 2),
]

AIMS = {
    "h1": {"1 KiB": 0.65, "10 KiB": 0.65, "100 KiB": 0.85, "1 MiB": 1.0, "10 MiB": 1.05},
    "https": {"1 KiB": 0.6, "10 KiB": 0.6, "100 KiB": 0.45, "1 MiB": 0.45, "10 MiB": 0.45},
    "h2": {"1 KiB": 0.7, "10 KiB": 0.7, "100 KiB": 0.5, "1 MiB": 0.5, "10 MiB": 0.5},
}

TITLES = {"h1": "HTTP h1", "https": "HTTPS h1", "h2": "HTTPS h2", "log": "HTTP h1 with access log", "workers": "HTTP h1 and two workers"}


@dataclass(frozen=True)
class Target:
    """Where hits go: the group decides scheme and protocol, the label the object."""

    group: str
    label: str
    size: int
    connections: int
    h2_connections: int
    streams: int


class Hit(Scenario):
    def __init__(self, target, setup):
        self._target = target
        self.group = target.group
        self.setup = setup
        self.name = f"{TITLES[target.group]}, memory hit {target.label}"
        self._scheme = "https" if target.group in ("https", "h2") else "http"
        self.needs = frozenset({"http" if target.group in ("h1", "log") else target.group})
        self.aim = AIMS.get(target.group, {}).get(target.label)
        self._path = f"/body/{target.size}"
        self._counts = {}

    def prepare(self, bench):
        self._sha256 = bench.content.make(self._path, self._target.size)

    def warm(self, bench, server):
        url = server.url(self._scheme, self._path)
        protocol = "h2" if self.group == "h2" else "h1"
        # The second answer is the hit, or the third where a cache wants to be sure of the demand.
        for _ in range(3):
            check.expect(bench.place, url, self._target.size, self._sha256, protocol=protocol)
        if self.group == "h2":
            self._counts[server.name] = self._count_of(bench, server)

    def _count_of(self, bench, server):
        """As many requests as fill the time of a run."""
        least = 4 * self._target.h2_connections * self._target.streams
        count = least
        for seconds in (bench.scale.seconds / 10, bench.scale.seconds):
            seen = self._h2load(bench, server, count)
            count = max(least, round(seconds * seen.requests / seen.seconds))
        return count

    def _h2load(self, bench, server, count):
        target = self._target
        url = server.url("https", self._path)
        log = server.folder / "h2load.log"
        return bench.generator.h2load(url, target.h2_connections, target.streams, count, log)

    def run(self, bench, server):
        target = self._target
        url = server.url(self._scheme, self._path)

        def load():
            if self.group == "h2":
                return self._h2load(bench, server, self._counts[server.name])
            return bench.generator.wrk(url, target.connections, bench.scale.seconds)

        return measured(bench, server, load, origin_requests="none", least_bytes=target.size)


def scenarios(scale):
    for group in ("h1", "https", "h2"):
        for target in targets(scale, group):
            yield Hit(target, MEMORY)


def logged(scale):
    """The same with an access log, which is off everywhere else."""
    for target in targets(scale, "log"):
        if target.label in ("1 KiB", "10 KiB"):
            yield Hit(target, LOGGING)


def by_two_workers(scale):
    """The same by two workers, who have the cores of server and clients together: what they write in common costs."""
    for target in targets(scale, "workers"):
        if target.label in ("1 KiB", "10 KiB"):
            yield Hit(target, TWO_WORKERS)


def targets(scale, group):
    for label, size, quick_size, *counts in SIZES:
        yield Target(group, label, scale.pick(size, quick_size), *counts)
