"""All scenarios, in the order of the table."""

from scenarios import disk, handshakes, hits, idle, misses, presigned, ranges, streaming, tail, zipf

# Neighbours with the same setup share their servers.
SOURCES = [
    hits.scenarios,
    presigned.scenarios,
    handshakes.scenarios,
    tail.scenarios,
    hits.logged,
    hits.by_two_workers,
    disk.scenarios,
    ranges.scenarios,
    misses.scenarios,
    zipf.scenarios,
    idle.scenarios,
    streaming.scenarios,
]


def all_scenarios(scale):
    """Every row there is; servers are started once for neighbours that share a setup."""
    return [scenario for source in SOURCES for scenario in source(scale)]
