"""Who runs when: servers are started, warmed and held still, and take turns within every round."""

import sys
from dataclasses import dataclass, field
from itertools import groupby

import check
import servers
from measure import Sample
from place import CompareError


@dataclass
class Row:
    """What came of one scenario: samples by server, reasons of those left out, and what failed."""

    scenario: object
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run_all(bench, scenarios, kinds):
    """Runs every scenario against every server of `kinds` that can do it; yields its row when it is done."""
    for (setup, fresh), group in groupby(scenarios, key=lambda one: (one.setup, one.fresh)):
        group = list(group)
        rows = [_row_of(scenario, kinds) for scenario in group]
        for row in rows:
            row.scenario.prepare(bench)
        if fresh:
            for row in rows:
                yield _run_fresh(bench, row, kinds)
        else:
            yield from _run_together(bench, setup, rows, kinds)


def _row_of(scenario, kinds):
    row = Row(scenario)
    for kind in kinds:
        for need in sorted(scenario.needs):
            if need in kind.cannot:
                row.left_out[kind.name] = kind.cannot[need]
    return row


def _run_together(bench, setup, rows, kinds):
    """All servers are up, all but one held still with SIGSTOP: a stopped process takes no time of the core, and
    nobody has to be started and warmed again for every run."""
    running = []
    try:
        for kind in kinds:
            if all(kind.name in row.left_out for row in rows):
                continue
            _say(f"  starting {kind.name} ({setup.name})")
            try:
                running.append(_started(bench, kind, setup))
            except CompareError as error:
                for row in rows:
                    row.failed.setdefault(kind.name, str(error))
                continue
            running[-1].pause()
        for row in rows:
            _say(f"  {row.scenario.name}")
            _rounds(bench, row, running)
            yield row
    finally:
        for server in running:
            server.stop()


def _rounds(bench, row, running):
    taking_part = [server for server in running if server.name not in row.left_out]
    for server in taking_part:
        _attempt(bench, row, server, row.scenario.warm)
    rounds = min(row.scenario.rounds or bench.scale.rounds, bench.scale.rounds)
    for number in range(rounds):
        # Another one begins each round, so that what the one before leaves behind meets everybody.
        shift = number % max(1, len(taking_part))
        for server in taking_part[shift:] + taking_part[:shift]:
            _attempt(bench, row, server, row.scenario.run)


def _run_fresh(bench, row, kinds):
    _say(f"  {row.scenario.name}")
    rounds = min(row.scenario.rounds or bench.scale.rounds, bench.scale.rounds)
    for _ in range(rounds):
        for kind in kinds:
            if kind.name in row.left_out or kind.name in row.failed:
                continue
            try:
                server = _started(bench, kind, row.scenario.setup)
            except CompareError as error:
                row.failed[kind.name] = str(error)
                continue
            try:
                _attempt(bench, row, server, row.scenario.warm)
                _attempt(bench, row, server, row.scenario.run)
            finally:
                server.stop()
    return row


def _started(bench, kind, setup):
    server = kind(bench.place, bench.origin)
    try:
        server.start(setup)
        if "https" not in kind.cannot:
            check.expect_tls(bench, server)
    except BaseException:
        server.stop()
        raise
    return server


def _attempt(bench, row, server, step):
    """One step of a scenario against one server; a server that failed sits out the rest of the scenario."""
    if server.name in row.failed:
        return
    server.resume()
    try:
        bench.origin.expect_running()
        sample = step(bench, server)
        server.expect_running()
        if sample is not None:
            row.samples.setdefault(server.name, []).append(sample)
    except CompareError as error:
        row.failed[server.name] = str(error)
    finally:
        server.pause()


def _say(text):
    print(text, file=sys.stderr, flush=True)


def installed(place):
    """The servers that can run here, with their versions, and those that are missing."""
    versions = {kind: kind.version(place) for kind in servers.ALL}
    return {kind: version for kind, version in versions.items() if version}, [
        kind.name for kind, version in versions.items() if not version
    ]
