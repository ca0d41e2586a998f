"""Tidegate beside other caches: one worker each on one core, the clients on another.

`make compare` runs everything and takes hours; groups named on the command line (or in COMPARE) run alone.
--quick shows in less than a minute that every scenario works; its figures mean nothing.
"""

import argparse
import itertools
import os
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import large_pages  # noqa: E402
import network  # noqa: E402
import report  # noqa: E402
import rounds  # noqa: E402
from content import Content, make_certificates  # noqa: E402
from load import Generator  # noqa: E402
from place import REPOSITORY, CompareError, Place, raise_open_files  # noqa: E402
from scenarios import all_scenarios  # noqa: E402
from scenarios.model import Bench, Scale  # noqa: E402
from servers.origin import Origin  # noqa: E402


def main():
    # Where Debian keeps servers, and where not everybody looks.
    os.environ["PATH"] += ":/usr/sbin"
    # An end that cleans up: servers that are held still would stay for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    scale = Scale(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 5),
        seconds=options.seconds or (0.3 if options.quick else 3.0),
    )
    try:
        if options.congestion_control != "machine":
            network.enter(options.congestion_control)
        # A run without meaning leaves the machine as it is.
        with large_pages.for_memory_files("machine" if scale.quick else options.memory_file_pages):
            return compare(options, scale)
    except CompareError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1


def compare(options, scale):
    """Runs what was asked for; 0 when every run was good."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 and not scale.quick:
        raise CompareError("two cores are needed: one for the server, one for the clients")
    server_core, load_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    place = Place(options.folder.resolve(), options.tidegate.resolve(), server_core, load_core)
    kinds, missing = rounds.installed(place)
    kinds = {kind: version for kind, version in kinds.items() if _is_wanted(kind, options)}
    scenarios = _chosen(all_scenarios(scale), options.groups)
    raise_open_files()
    if load_core is not None:
        # Clients are started from here, and what is done between runs must not disturb a server either.
        os.sched_setaffinity(0, {load_core})
    place.folder.mkdir(parents=True, exist_ok=True)
    make_certificates(place)
    origin = Origin(place)
    bench = Bench(place, scale, origin, Content(place), Generator(place), itertools.count())
    done = []
    path = options.json or place.folder / "compare.json"
    command_line = shlex.join(["python3", "benches/compare", *sys.argv[1:], *options.groups_of_environment])
    versions = {kind.name: version for kind, version in kinds.items()}
    try:
        origin.start()
        for row in rounds.run_all(bench, scenarios, list(kinds)):
            done.append(row)
            # What is done stays when a later scenario is interrupted.
            report.write(path, done, command_line, versions, scale.quick)
    finally:
        origin.stop()
    print(report.table(done))
    for name in missing:
        print(f"{name} is not installed and was left out", file=sys.stderr)
    print(f"compare: everything is in {path}", file=sys.stderr)
    return 1 if any(row.failed for row in done) else 0


def _options():
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    parser.add_argument("groups", nargs="*", help="groups of scenarios, or all; COMPARE when none is named")
    parser.add_argument("--quick", action="store_true", help="tiny objects, one round, no meaning")
    parser.add_argument(
        "--tidegate", type=Path, default=REPOSITORY / "target/release/tidegate", help="the binary to measure"
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/compare", help="for everything it writes")
    parser.add_argument("--json", type=Path, help="the report; default FOLDER/compare.json")
    parser.add_argument("--rounds", type=int, help="runs of each server; default 5")
    parser.add_argument("--seconds", type=float, help="length of a run; default 3")
    parser.add_argument(
        "--congestion-control",
        default=network.DEFAULT,
        help=f"of TCP, in a network namespace; default {network.DEFAULT}; machine: whatever runs here",
    )
    parser.add_argument(
        "--memory-file-pages",
        default=large_pages.DEFAULT,
        help=f"{large_pages.SETTING} while it runs; default {large_pages.DEFAULT}; machine: what is set",
    )
    parser.add_argument("--servers", help="a list with commas, such as Tidegate,nginx; default all")
    options = parser.parse_args()
    options.groups_of_environment = [] if options.groups else os.environ.get("COMPARE", "").split()
    options.groups += options.groups_of_environment
    if options.groups == ["all"]:
        options.groups = []
    return options


def _is_wanted(kind, options):
    return not options.servers or kind.name in options.servers.split(",")


def _chosen(scenarios, groups):
    known = list(dict.fromkeys(scenario.group for scenario in scenarios))
    unknown = [group for group in groups if group not in known]
    if unknown:
        raise CompareError(f"there is no group {' or '.join(unknown)}; there are {', '.join(known)}")
    return [scenario for scenario in scenarios if not groups or scenario.group in groups]


sys.exit(main())
