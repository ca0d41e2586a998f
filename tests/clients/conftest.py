"""The suites that drive the real binary with real clients.

They build nothing: `TIDEGATE_BIN` names the binary, by default the one of the dev profile. Nodes listen on
free ports and live as long as the module or the test that started them; a node that died or panicked fails
its test. Nothing sleeps and nothing is tried twice: tests wait for log lines and for records of the access
log, with a deadline.
"""

import os
from pathlib import Path

import pytest

from harness import s3
from harness.launch import Launcher
from harness.node import REPOSITORY

_launchers = []


@pytest.fixture
def launch(tmp_path):
    """Starts nodes for one test."""
    yield from _launching(tmp_path)


@pytest.fixture(scope="module")
def module_launch(tmp_path_factory):
    """Starts nodes that the tests of a module share."""
    yield from _launching(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="session")
def session_launch(tmp_path_factory):
    """Starts nodes that several suites share."""
    yield from _launching(tmp_path_factory.mktemp("nodes"))


@pytest.fixture(scope="module")
def node(module_launch):
    """Edge and store in one process, with an empty bucket `suite`, shared by the tests of a module."""
    node = module_launch.up()
    s3.client(node.s3).create_bucket(Bucket="suite")
    return node


@pytest.fixture(scope="session")
def artifacts():
    """Where tests leave what a person may want to look at."""
    folder = Path(os.environ.get("ARTIFACTS", REPOSITORY / "target/artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _launching(folder):
    launcher = Launcher(folder)
    _launchers.append(launcher)
    try:
        yield launcher
    finally:
        _launchers.remove(launcher)
        launcher.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows what its nodes had to say, and a test fails when one of them died."""
    report = yield
    if report.when == "call":
        nodes = [node for launcher in _launchers for node in launcher.nodes]
        complaints = [complaint for node in nodes for complaint in node.complaints()]
        if report.passed and complaints:
            report.outcome = "failed"
            report.longrepr = "\n".join(complaints)
        if report.failed:
            for node in nodes:
                report.sections.append((f"log of tidegate {' '.join(node.arguments)}", node.log_tail()))
    return report
