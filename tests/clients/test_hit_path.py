"""Hits from memory and misses do not become dearer unnoticed: instructions are counted, and lines of memory, but no time."""

import json
import sys

import pytest

from harness.node import BINARY, REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benches/hit_path"))

import instructions  # noqa: E402
import sharing  # noqa: E402

# Compilers and the seeds of hash tables move the count by one or two in a hundred.
MOST_GROWTH = 1.10

# A few in a hundred are connections that are accepted. References that were counted of one object made one to six lines.
MOST_MOVES = 0.5


@pytest.mark.parametrize("case", instructions.CASES)
def test_a_request_takes_no_more_instructions_than_are_on_record(case):
    if "debug" not in BINARY.parts:
        pytest.skip("the counts on record are those of the dev profile")
    on_record = json.loads(instructions.KEPT.read_text())[case]
    counted = instructions.instructions_per_request(BINARY, case)
    assert counted <= MOST_GROWTH * on_record, (
        f"{counted} instructions, {on_record} are on record; "
        "benches/hit_path/instructions.py --write, if that is what it should cost"
    )


def test_workers_take_no_line_of_memory_from_one_another_for_a_hit():
    moved = sharing.moves_per_hit(BINARY, workers=4)
    total = sum(moved.values())
    dearest = sorted(moved.items(), key=lambda item: -item[1])[:5]
    assert total <= MOST_MOVES, f"{total:.2f} lines moved for a hit: {dearest}"
