"""What this machine can do at best: a store cannot be faster than its disk, its database or its hash."""

import hashlib
import os
import sqlite3
import time

MIB = 1 << 20


def synced_mib_per_second(folder, size_bytes):
    """One file, written from its beginning to its end and synced."""
    data = os.urandom(MIB)
    path = folder / "synced"
    began = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(size_bytes // MIB):
            file.write(data)
        os.fdatasync(file.fileno())
    seconds = time.monotonic() - began
    path.unlink()
    return size_bytes / MIB / seconds


def md5_mib_per_second(size_bytes):
    """OpenSSL's MD5 on one core: what gives an object its entity tag."""
    data = os.urandom(MIB)
    digest = hashlib.md5(usedforsecurity=False)
    began = time.monotonic()
    for _ in range(size_bytes // MIB):
        digest.update(data)
    digest.digest()
    return size_bytes / MIB / (time.monotonic() - began)


def synced_records_per_second(folder, record_bytes, records_per_sync, syncs):
    """Records appended to one file, many to a sync: a pack without anything around it."""
    data = os.urandom(record_bytes * records_per_sync)
    path = folder / "records"
    began = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(syncs):
            file.write(data)
            os.fdatasync(file.fileno())
    seconds = time.monotonic() - began
    path.unlink()
    return records_per_sync * syncs / seconds


def sqlite_rows_per_second(folder, rows_per_commit, commits):
    """Rows of the size of an object's, many to a durable commit."""
    path = folder / "rows.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE rows (bucket INTEGER, key TEXT, row BLOB, PRIMARY KEY (bucket, key)) WITHOUT ROWID")
    began = time.monotonic()
    for commit in range(commits):
        database.execute("BEGIN IMMEDIATE")
        rows = ((1, f"object/{commit * rows_per_commit + number:012}", b"x" * 200) for number in range(rows_per_commit))
        database.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")
    seconds = time.monotonic() - began
    database.close()
    for left in folder.glob("rows.db*"):
        left.unlink()
    return rows_per_commit * commits / seconds
