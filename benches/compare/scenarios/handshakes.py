"""TLS handshakes, full and resumed. Each is followed by one small hit, because tickets come with the answer."""

import check
from content import KIB
from load import Load
from place import CompareError
from scenarios.hits import MEMORY
from scenarios.model import Scenario, measured

TARGET = f"/body/{KIB}"


class Handshake(Scenario):
    group = "handshake"
    setup = MEMORY
    needs = frozenset({"https"})
    unit = "handshake with one hit of 1 KiB"

    def __init__(self, kind):
        self._kind = kind
        self.name = f"TLS 1.3 handshake, {kind}, and one hit"

    def prepare(self, bench):
        self._sha256 = bench.content.make(TARGET, KIB)

    def warm(self, bench, server):
        for _ in range(3):
            check.expect(bench.place, server.url("https", TARGET), KIB, self._sha256)

    def run(self, bench, server):
        return measured(bench, server, lambda: self._load(bench, server), origin_requests="none", least_bytes=KIB)

    def _load(self, bench, server):
        seconds = bench.scale.seconds
        arguments = [self._kind, str(server.tls_port), TARGET, str(seconds), self._sha256]
        seen = bench.generator.client("handshakes.py", *arguments, seconds=seconds)
        if seen["wrong"] or not seen["handshakes"]:
            raise CompareError(f"{seen['wrong']} of {seen['handshakes']} were not {self._kind}, or had wrong bytes")
        return Load(
            requests=seen["handshakes"],
            bytes=seen["bytes"],
            seconds=seen["seconds"],
            p50_us=seen["p50_us"],
            p99_us=seen["p99_us"],
        )


def scenarios(_scale):
    yield Handshake("full")
    yield Handshake("resumed")
