"""Hits behind a signature that every request carries: AWS SigV4 by Tidegate, MD5 by nginx's secure_link."""

import check
from content import KIB
from place import CompareError
from scenarios.filling import fill, write_list
from scenarios.hits import MEMORY
from scenarios.model import Scenario, measured

SIZE = 10 * KIB
OBJECTS = 64


class Presigned(Scenario):
    group = "presigned"
    name = "HTTPS h1, presigned hit 10 KiB"
    setup = MEMORY
    needs = frozenset({"https", "signed"})
    aim = 0.8

    def prepare(self, bench):
        self._sha256 = bench.content.make(f"/body/{SIZE}", SIZE)

    def warm(self, bench, server):
        targets = [server.signed_target(f"/signed/{SIZE}/{number}") for number in range(OBJECTS)]
        fill(bench, server, [(target, SIZE, self._sha256) for target in targets], scheme="https")
        changed = targets[0].replace(f"/{SIZE}/0?", f"/{SIZE}/1?")
        status, _, _ = check.fetch(bench.place, server.url("https", changed))
        if status != 403:
            raise CompareError(f"{server.name} answers {status} to a signature for another object")
        write_list(server.folder, "presigned", targets)

    def run(self, bench, server):
        targets = server.folder / "presigned.targets"
        return measured(
            bench,
            server,
            lambda: bench.generator.wrk(
                server.url("https", "/"), 32, bench.scale.seconds, "listed.lua", [targets]
            ),
            origin_requests="none",
            least_bytes=SIZE,
        )


def scenarios(_scale):
    yield Presigned()
