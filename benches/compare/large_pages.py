"""Large pages for files of memory, as docs/PERFORMANCE.md advises, while a comparison runs.

Files on a disk come in large folios by themselves; files of memory (`memfd`) only where
/sys/kernel/mm/transparent_hugepage/shmem_enabled says so. The setting is the machine's: it is put back at the end.
"""

import sys
from contextlib import contextmanager
from pathlib import Path

# What docs/PERFORMANCE.md advises, "Tuning".
DEFAULT = "within_size"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def setting():
    """What is set, or None where the kernel has no such thing: `always within_size advise [never] deny force`."""
    try:
        words = SETTING.read_text().split()
    except OSError:
        return None
    return next((word.strip("[]") for word in words if word.startswith("[")), None)


@contextmanager
def for_memory_files(wanted):
    """With `wanted` set; `machine` leaves what there is. Who may not set it is told so."""
    before = setting()
    if wanted in ("machine", before):
        yield
        return
    try:
        SETTING.write_text(wanted)
    except OSError as error:
        print(f"compare: {SETTING} stays {before} ({error.strerror})", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        SETTING.write_text(before)
