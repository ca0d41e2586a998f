"""What a scenario is, and what all of them share while they run."""

import itertools
from dataclasses import dataclass

import measure
from content import Content
from load import Generator
from place import CompareError, Place
from servers.origin import Origin
from servers.process import Setup


@dataclass(frozen=True)
class Scale:
    """How much of everything: the full form, or the quick one that only shows that all of it works."""

    quick: bool
    rounds: int
    seconds: float

    def pick(self, full, quick):
        """A count or a size that differs between the two forms."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Bench:
    """What scenarios work with."""

    place: Place
    scale: Scale
    origin: Origin
    content: Content
    generator: Generator
    numbers: itertools.count

    def unique(self):
        """A word that was not used before."""
        return f"{next(self.numbers)}"


class Scenario:
    """One row of the table.

    `needs` names what a server must be able to do (`Server.cannot`). `aim` is the highest ratio of CPU per
    request to nginx that the project wants to see. `fresh` scenarios get a server that has just been started.
    """

    group = None
    name = None
    setup: Setup = None
    needs = frozenset({"http"})
    aim = None
    fresh = False
    rounds = None
    unit = "request"
    aim_figure = "CPU per request"

    @staticmethod
    def figure_of(sample):
        """What ratios are made of; less is better."""
        return sample.cpu_us_per_request

    def summary(self, samples):
        """A line under a server's figures, for what the columns do not show; empty when there is nothing."""
        return ""

    def prepare(self, bench):
        """Makes the objects."""

    def warm(self, bench, server):
        """Fills the cache and checks that what comes out of it is right."""

    def run(self, bench, server):
        """Measures once; returns a `Sample`."""
        raise NotImplementedError


def measured(bench, server, load, *, origin_requests, least_bytes=0):
    """Runs `load()` and weighs the server meanwhile.

    `origin_requests` says what the origin must see: "none" when every answer must come from the cache, "all"
    when none may, "any". `least_bytes` is what a complete response has at least.
    """
    asked = bench.origin.requests()
    before = measure.cpu_ns(server.pids())
    seen = load()
    pids = server.pids()
    spent = measure.cpu_spent_ns(before, measure.cpu_ns(pids))
    asked = bench.origin.requests() - asked
    if origin_requests == "none" and asked:
        raise CompareError(f"{asked} of {seen.requests} requests went to the origin, which were to be hits")
    if origin_requests == "all" and asked < seen.requests:
        raise CompareError(f"only {asked} of {seen.requests} requests went to the origin, which were to be misses")
    if seen.bytes < seen.requests * least_bytes:
        raise CompareError(f"{seen.requests} responses had {seen.bytes} bytes, less than {least_bytes} each")
    return measure.Sample(
        requests=seen.requests,
        seconds=seen.seconds,
        cpu_ns=spent,
        p50_us=seen.p50_us,
        p99_us=seen.p99_us,
        resident_kib=measure.resident_kib(pids),
        more={"origin_requests": asked},
    )
