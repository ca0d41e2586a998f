"""The benchmarks of the store (benches/store) in their quick form: everything in them still works.

Nothing here depends on how fast anything was.
"""

import json
import subprocess
import sys

from harness.node import BINARY, REPOSITORY

PATIENCE_SECONDS = 120.0


def test_every_figure_is_measured_in_the_quick_form(tmp_path):
    command = [sys.executable, REPOSITORY / "benches/store", "--quick", "--tidegate", BINARY]
    command += ["--folder", tmp_path, "--json", tmp_path / "report.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["quick"] is True
    assert [name for name, value in report["machine"].items() if value in (None, "", "missing", "unknown")] == []
    parts = [row["what"].split(" ")[0] for row in report["rows"]]
    assert list(dict.fromkeys(parts)) == ["synced", "MD5,", "SQLite,", "PUT", "GET", "LIST", "resident"]
    assert all(min(row["rounds"]) > 0 for row in report["rows"])
    assert {row["who"] for row in report["rows"]} >= {"Tidegate", "nginx", "this machine"}
