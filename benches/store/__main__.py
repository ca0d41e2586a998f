"""The store beside what its disk, its database and its hash allow, beside Garage and beside nginx: durable PUTs, GETs,
LIST, memory.

`make bench-store` runs all of it in about five minutes on a machine that does nothing else, ten with Garage, which takes
part when it is built (`make garage`); parts named on the command line (limits, puts, gets, keys) run alone. --quick shows
in a few seconds that everything works; its figures mean nothing.
"""

import argparse
import json
import os
import shlex
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Load generators, counting of CPU time and processes are those of the comparison of caches.
sys.path[:0] = [str(HERE), str(HERE.parent / "compare")]

import measure  # noqa: E402
from place import REPOSITORY, CompareError, Place, raise_open_files  # noqa: E402
from stores import Garage, Nginx, Tidegate  # noqa: E402
from works import MIB, PARTS, Bench, Scale  # noqa: E402


def main():
    os.environ["PATH"] += ":/usr/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    scale = Scale(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (0.3 if options.quick else 5.0),
        keys=options.keys or (2_000 if options.quick else 1_000_000),
        large_bytes=(2 if options.quick else 100) * MIB,
    )
    try:
        measured(options, scale)
    except CompareError as error:
        print(f"store: {error}", file=sys.stderr)
        return 1
    return 0


def measured(options, scale):
    """Measures what was asked for, and tells it."""
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    place = Place(options.folder.resolve(), options.tidegate.resolve(), server_core, load_core)
    place.folder.mkdir(parents=True, exist_ok=True)
    raise_open_files()
    parts = _chosen(options.parts)
    Garage.binary = options.garage.resolve()
    store, nginx = Tidegate(place), Nginx(place, server_core)
    rival = Garage(place) if Garage.version(place) else None
    if rival is None:
        print(f"  without Garage: {Garage.binary} is not there", file=sys.stderr, flush=True)
    rows = []
    bench = Bench(place, scale, store, rival, nginx, rows)
    try:
        for server in (*bench.stores, nginx):
            server.start()
        for name in parts:
            print(f"  {name}", file=sys.stderr, flush=True)
            for row in PARTS[name](bench):
                rows.append(row)
                # What is done stays when a later part is interrupted.
                _write(options.json or place.folder / "store.json", rows, place, scale)
        store.expect_running()
    finally:
        bench.all()
        for server in (nginx, *bench.stores):
            server.stop()
        for server in bench.stores:
            server.remove_data()
    print(_table(rows))


def _options():
    parser = argparse.ArgumentParser(prog="store", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--quick", action="store_true", help="little of everything, one round, no meaning")
    parser.add_argument(
        "--tidegate", type=Path, default=REPOSITORY / "target/release/tidegate", help="the binary to measure"
    )
    parser.add_argument(
        "--garage", type=Path, default=REPOSITORY / "target/rivals/bin/garage", help="Garage's binary, if it is there"
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/bench-store", help="for all that it writes")
    parser.add_argument("--json", type=Path, help="the report; default FOLDER/store.json")
    parser.add_argument("--rounds", type=int, help="runs of each figure; default 3")
    parser.add_argument("--seconds", type=float, help="length of a run; default 5")
    parser.add_argument("--keys", type=int, help="keys to list; default 1,000,000")
    return parser.parse_args()


def _chosen(parts):
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise CompareError(f"there is no part {' or '.join(unknown)}; there are {', '.join(PARTS)}")
    chosen = [name for name in PARTS if not parts or name in parts]
    if "puts" in chosen and "limits" not in chosen:
        # The aims of large PUTs are shares of them.
        chosen.insert(0, "limits")
    return chosen


def _write(path, rows, place, scale):
    whole = {
        "command": shlex.join(["python3", "benches/store", *sys.argv[1:]]),
        "quick": scale.quick,
        "machine": measure.machine(),
        "versions": {kind.name: kind.version(place) for kind in (Tidegate, Garage, Nginx)},
        "rows": [
            {"what": row.what, "who": row.who, "unit": row.unit, "median": row.value, "rounds": row.values}
            | {"aim": row.aim, **row.more}
            for row in rows
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")


def _table(rows):
    lines = [("what", "who", "median", "lowest", "highest", "", "aim", "more")]
    for row in rows:
        more = ", ".join(f"{name} {_number(value)}" for name, value in row.more.items())
        figures = [_number(value) for value in (row.value, min(row.values), max(row.values))]
        lines.append((row.what, row.who, *figures, row.unit, _number(row.aim) if row.aim else "", more))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    left = {0, 1, 5, 7}
    text = []
    for line in lines:
        cells = [c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


sys.exit(main())
