"""Hits on disk: many objects, and memory for hardly any of them.

nginx always answers from files, with the page cache in front of them; so do the others here.
"""

from content import GIB, KIB, MIB
from scenarios.filling import fill, write_list
from scenarios.model import Scenario, measured
from servers.process import Setup

# A fortieth of the small objects, at most, can be in memory.
DISK = Setup("disk", memory_bytes=MIB, disk_bytes=2 * GIB)


class DiskHit(Scenario):
    group = "disk"
    setup = DISK
    needs = frozenset({"http", "disk"})

    def __init__(self, label, size, count, connections, aim):
        self.name = f"HTTP h1, disk hit {label}"
        self.aim = aim
        self._size, self._count, self._connections = size, count, connections

    def prepare(self, bench):
        targets = [f"/disk/{self._size}/{number}" for number in range(self._count)]
        self._objects = [(target, self._size, bench.content.make(target, self._size)) for target in targets]

    def warm(self, bench, server):
        fill(bench, server, self._objects)
        write_list(server.folder, f"{self._size}", [target for target, _, _ in self._objects])

    def run(self, bench, server):
        targets = server.folder / f"{self._size}.targets"
        before = server.more()
        sample = measured(
            bench,
            server,
            lambda: bench.generator.wrk(
                server.url("http", "/"), self._connections, bench.scale.seconds, "listed.lua", [targets]
            ),
            origin_requests="none",
            least_bytes=self._size,
        )
        sample.more.update({name: count - before.get(name, 0) for name, count in server.more().items()})
        return sample

    def summary(self, samples):
        disk = sum(sample.more.get("disk_bytes", 0) for sample in samples)
        memory = sum(sample.more.get("memory_bytes", 0) for sample in samples)
        if not disk + memory:
            return ""
        return f"{100 * disk / (disk + memory):.1f} % of the bytes came from the disk tier"


def scenarios(scale):
    yield DiskHit("10 KiB", 10 * KIB, scale.pick(4096, 512), 32, 1.0)
    yield DiskHit("100 KiB", scale.pick(100 * KIB, 20 * KIB), scale.pick(1024, 64), 16, None)
    yield DiskHit("1 MiB", scale.pick(MIB, 300 * KIB), scale.pick(128, 8), 8, None)
    yield DiskHit("10 MiB", scale.pick(10 * MIB, MIB), scale.pick(32, 8), 4, 1.05)
    yield DiskHit("100 MiB", scale.pick(100 * MIB, 2 * MIB), scale.pick(6, 2), 2, None)
