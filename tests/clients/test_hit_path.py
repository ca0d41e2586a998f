"""Hits from memory and misses do not become dearer unnoticed: their instructions are counted, not their time."""

import json
import sys

import pytest

from harness.node import BINARY, REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benches/hit_path"))

import instructions  # noqa: E402

# Compilers and the seeds of hash tables move the count by one or two in a hundred.
MOST_GROWTH = 1.10


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
