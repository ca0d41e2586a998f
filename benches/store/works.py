"""What is measured of a store, one function for each part; each yields rows for the table."""

import http.client
import itertools
import math
import re
import subprocess
import time
from dataclasses import dataclass, field
from statistics import median

import bounds
import measure
from content import parts_of
from load import Generator
from place import CompareError, Place
from stores import BUCKET, HERE, KEYS_BUCKET

KIB, MIB = 1 << 10, 1 << 20
PAGE = 1000
PUT_SCRIPT = HERE / "lua/put.lua"


@dataclass(frozen=True)
class Scale:
    """How much of everything. `keys` is what LIST and memory are measured at."""

    quick: bool
    rounds: int
    seconds: float
    keys: int
    large_bytes: int

    @property
    def middle_bytes(self):
        return 64 * KIB if self.quick else 10 * MIB


@dataclass
class Row:
    """One line: `values` are the rounds of the figure, of which the median counts; `aim` is what it should come to,
    and `more` are other figures of the same runs."""

    what: str
    who: str
    unit: str
    values: list
    aim: float | None = None
    more: dict = field(default_factory=dict)

    @property
    def value(self):
        return median(self.values)


@dataclass
class Bench:
    """What every part needs. `rival` is another store, or None. `beside` runs clients on any core, `apart` on the core that
    no server has."""

    place: Place
    scale: Scale
    store: object
    rival: object
    nginx: object
    rows: list

    def __post_init__(self):
        free = Place(self.place.folder, self.place.tidegate, None, None)
        self.beside, self.apart = Generator(free), Generator(self.place)
        self._lists = 0

    def only(self, server):
        """Holds every server still but this one."""
        for other in (*self.stores, self.nginx):
            other.pause()
        server.resume()

    def all(self):
        """Lets every server go on."""
        for server in (*self.stores, self.nginx):
            server.resume()

    @property
    def stores(self):
        return [self.store] if self.rival is None else [self.store, self.rival]

    def value_of(self, what):
        return next(row.value for row in self.rows if row.what == what)

    def targets(self, store, method, bucket, prefix, count):
        """A file of presigned targets with keys that nobody had before."""
        self._lists += 1
        path = self.place.folder / f"targets-{self._lists}"
        target = store.signer.target
        with path.open("w") as file:
            for number in range(count):
                file.write(target(method, f"/{bucket}/{prefix}{self._lists}/{number:09}") + "\n")
        return path


def limits(bench):
    """What nobody can beat here, measured in the same run."""
    scale, folder = bench.scale, bench.place.folder
    size = scale.large_bytes
    for what, unit, measured in [
        ("synced disk, one file", "MiB/s", lambda: bounds.synced_mib_per_second(folder, size)),
        ("MD5, one core", "MiB/s", lambda: bounds.md5_mib_per_second(size)),
        (
            "synced disk, 16 KiB records, 64 a sync",
            "records/s",
            lambda: bounds.synced_records_per_second(folder, 16 * KIB, 64, 5 if scale.quick else 100),
        ),
        (
            "SQLite, synced, 128 rows a commit",
            "rows/s",
            lambda: bounds.sqlite_rows_per_second(folder, 128, 5 if scale.quick else 200),
        ),
    ]:
        yield Row(what, "this machine", unit, [measured() for _ in range(scale.rounds)])


def puts(bench):
    """Durable PUTs of new keys, the clients on the same cores."""
    ceiling = min(bench.value_of("synced disk, one file"), bench.value_of("MD5, one core"))
    for store in bench.stores:
        bench.only(store)
        share, rate = (0.6 * ceiling, 6000) if store is bench.store else (None, None)
        yield _put_row(bench, store, "PUT 16 KiB, 64 clients", 16 * KIB, 64, 20_000, aim=rate)
        row = _put_row(bench, store, "PUT 1 MiB, 8 clients", MIB, 8, 1500, aim=share)
        row.unit = "MiB/s"
        yield row
        yield _large_put_row(bench, store, 1, aim=share)
        yield _large_put_row(bench, store, 2)
    bench.all()


def _put_row(bench, store, what, size, clients, most_per_second, aim):
    rates, cpu, p50, p99 = [], [], [], []
    for number in range(bench.scale.rounds):
        count = math.ceil(bench.scale.seconds * most_per_second)
        targets = bench.targets(store, "PUT", BUCKET, f"put-{size}-{number}-", count)
        load, spent = _loaded(bench, store, clients, [targets, size])
        rates.append(load.requests / load.seconds)
        cpu.append(spent / load.requests / 1000)
        p50.append(load.p50_us)
        p99.append(load.p99_us)
        _expect_some(store, targets, size, clients)
        targets.unlink()
    more = {"cpu_us_per_request": median(cpu), "p50_us": median(p50), "p99_us": median(p99)}
    return Row(what, store.name, "/s", rates, aim, more)


def _expect_some(store, targets, size, clients):
    """Of what was put first, all that was answered is there with its bytes: a store that forgets is no store."""
    expected = (b"0123456789abcdef" * math.ceil(size / 16))[:size]
    found = 0
    with targets.open() as file:
        # One for wrk to look at, and one for each client, any of which may have come too late.
        for line in itertools.islice(file, clients + 1):
            path = line.split("?")[0]
            data = store.call("GET", path, missing_is_none=True)
            if data not in (None, expected):
                raise CompareError(f"{path} has other bytes than were put")
            found += data is not None
    if not found:
        raise CompareError(f"nothing of {targets} was stored")


def _large_put_row(bench, store, clients, aim=None):
    size = bench.scale.large_bytes
    file = bench.place.folder / "large"
    with file.open("wb") as out:
        for part in parts_of("large", size):
            out.write(part)
    rates = []
    for number in range(bench.scale.rounds):
        paths = [f"/{BUCKET}/large-{clients}-{number}-{client}" for client in range(clients)]
        began = time.monotonic()
        uploads = [_upload(store, file, path) for path in paths]
        for upload in uploads:
            output, _ = upload.communicate(timeout=120)
            if upload.returncode or output.strip() != "200":
                raise CompareError(f"curl ended with {upload.returncode}: {output}")
        rates.append(clients * size / MIB / (time.monotonic() - began))
        if store.call("GET", paths[0]) != file.read_bytes():
            raise CompareError(f"{paths[0]} has other bytes than were put")
        for path in paths:
            store.call("DELETE", path)
    file.unlink()
    title = f"PUT {size // MIB} MiB, {clients} at a time" if size >= MIB else f"PUT {size // KIB} KiB, {clients} at a time"
    return Row(title, store.name, "MiB/s", rates, aim)


def _upload(store, file, path):
    url = f"http://{store.address}{store.signer.target('PUT', path)}"
    command = ["curl", "--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]
    return subprocess.Popen([*command, "--upload-file", file, url], stdout=subprocess.PIPE, text=True)


def gets(bench):
    """Objects that lie in the page cache, beside nginx with the same files: CPU of the server on a core of its own."""
    store, nginx = bench.store, bench.nginx
    for size, clients in [(16 * KIB, 64), (MIB, 16), (bench.scale.middle_bytes, 4)]:
        path = f"/{BUCKET}/get-{size}"
        data = b"".join(parts_of(path, size))
        for one in bench.stores:
            one.call("PUT", path, body=data)
        nginx.keep(path, data)
        signed = store.signer.target("GET", path)
        runs = [
            (store, "Tidegate", f"{store.address}{path}"),
            (store, "Tidegate, presigned", f"{store.address}{signed}"),
            (nginx, "nginx", f"127.0.0.1:{nginx.port}{path}"),
            (nginx, "nginx without sendfile", f"127.0.0.1:{nginx.reading_port}{path}"),
        ]
        if bench.rival:
            target = bench.rival.signer.target("GET", path)
            runs.append((bench.rival, f"{bench.rival.name}, presigned", f"{bench.rival.address}{target}"))
        for one in bench.stores:
            if one.call("GET", path) != data:
                raise CompareError(f"{path} has other bytes than were put")
        title = f"GET {size // MIB} MiB" if size >= MIB else f"GET {size // KIB} KiB"
        rows = {who: Row(title, who, "CPU µs", []) for _, who, _ in runs}
        rates = {who: [] for _, who, _ in runs}
        if bench.place.server_core is not None:
            for one in bench.stores:
                one.pin(bench.place.server_core)
        for _ in range(bench.scale.rounds):
            for server, who, url in runs:
                _one_apart(bench, server, url, clients, rows[who], rates[who])
        for one in bench.stores:
            one.pin(None)
        rows["Tidegate"].aim = 1.2 * rows["nginx"].value
        for who, row in rows.items():
            row.more = {"requests_per_second": median(rates[who])}
            yield row


def _one_apart(bench, server, url, clients, row, rates):
    bench.only(server)
    before = measure.cpu_ns(server.pids())
    load = bench.apart.wrk(f"http://{url}", clients, bench.scale.seconds)
    spent = measure.cpu_spent_ns(before, measure.cpu_ns(server.pids()))
    row.values.append(spent / load.requests / 1000)
    rates.append(load.requests / load.seconds)
    bench.all()


def keys(bench):
    """A bucket with very many keys: how fast it fills, how fast it is listed, and what it costs in memory. A rival is given
    a tenth of them."""
    for store, count in zip(bench.stores, (bench.scale.keys, bench.scale.keys // 10)):
        bench.only(store)
        yield from _keys_of(bench, store, count, aim=200_000 if store is bench.store else None)
    bench.all()


def _keys_of(bench, store, count, aim):
    before = store.resident_kib()
    began = time.monotonic()
    targets = bench.targets(store, "PUT", KEYS_BUCKET, "key-", count)
    signed_seconds = time.monotonic() - began
    load = _fill(bench, store, targets, count)
    targets.unlink()
    held = len(list(_pages(store, KEYS_BUCKET)))
    rate = Row(f"PUT 100 B, 64 clients, up to {count:,} keys", store.name, "/s", [load])
    rate.more = {"signing_seconds": signed_seconds}
    yield rate
    rates, pages, cpu = [], [], []
    for _ in range(bench.scale.rounds):
        spent = measure.cpu_ns(store.pids())
        began = time.monotonic()
        found, times = _listed(store, KEYS_BUCKET)
        rates.append(found / (time.monotonic() - began))
        cpu.append(measure.cpu_spent_ns(spent, measure.cpu_ns(store.pids())) / found / 1000)
        pages.append(median(times) * 1e6)
        if found < count:
            raise CompareError(f"{found} keys were listed, {count} were put")
    more = {"cpu_us_per_key": median(cpu), "page_p50_us": median(pages), "pages": held}
    yield Row(f"LIST of {count:,} keys, one client", store.name, "keys/s", rates, aim, more)
    after = store.resident_kib()
    more = {"before_mib": before / 1024}
    yield Row(f"resident memory at {count:,} objects", store.name, "MiB", [after / 1024], None, more)


def _fill(bench, store, targets, count):
    """Puts every target; returns how many a second."""
    done = []
    # The first target again at the end, which wrk only looked at, and whatever is under way then.
    wanted = store.puts_answered() + count + 128

    def until_all_are_there(process):
        while process.poll() is None and store.puts_answered() < wanted:
            time.sleep(0.2)
        done.append(time.monotonic())

    began = time.monotonic()
    words = [targets, 100]
    bench.beside.wrk_until(f"http://{store.address}/", 64, PUT_SCRIPT, words, until_all_are_there)
    return (count + 128) / (done[0] - began)


def _loaded(bench, store, clients, arguments):
    before = measure.cpu_ns(store.pids())
    load = bench.beside.wrk(f"http://{store.address}/", clients, bench.scale.seconds, PUT_SCRIPT, arguments)
    return load, measure.cpu_spent_ns(before, measure.cpu_ns(store.pids()))


def _pages(store, bucket):
    """Every page of a listing, as a client takes it that knows only where to go on."""
    connection = http.client.HTTPConnection(store.address, timeout=60)
    token = None
    while True:
        query = {"list-type": "2", "max-keys": str(PAGE)}
        if token:
            query["continuation-token"] = token
        connection.request("GET", store.signer.target("GET", f"/{bucket}", query))
        answer = connection.getresponse()
        page = answer.read()
        if answer.status != 200:
            raise CompareError(f"a page got {answer.status}: {page[:300]}")
        yield page
        found = re.search(rb"<NextContinuationToken>([^<]+)", page)
        if not found:
            connection.close()
            return
        token = found.group(1).decode()


def _listed(store, bucket):
    found, times = 0, []
    last = time.monotonic()
    for page in _pages(store, bucket):
        now = time.monotonic()
        times.append(now - last)
        found += int(re.search(rb"<KeyCount>(\d+)", page).group(1))
        last = time.monotonic()
    return found, times


PARTS = {"limits": limits, "puts": puts, "gets": gets, "keys": keys}
