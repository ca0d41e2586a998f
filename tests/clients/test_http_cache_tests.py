"""RFC 9111 as the public tests for HTTP caches see it, against a real edge: the referee of the cache.

Every failing test is listed here, so that both a new failure and one that is gone are noticed; the output
names each with its message. `make suites` runs the edition of the registry.

CACHE_TEST=ID runs one test and prints all that client and origin saw.
RUNS=3 runs everything three times and compares.
HTTP_CACHE_TESTS=FOLDER runs another edition: a checkout of http-tests/cache-tests after `npm install`.
"""

import os
from collections import Counter

import pytest

from harness.http_cache_tests import INSTALLED, CacheTests

FOLDER = os.environ.get("HTTP_CACHE_TESTS", INSTALLED)
CACHE_TEST = os.environ.get("CACHE_TEST")
RUNS = int(os.environ.get("RUNS", "1"))

# The registry's edition is older than RFC 9111. Its `age-parse-*` want a response with an invalid Age or with
# several to be stale, where section 5.1 takes the first and ignores what is invalid. Its `stale-close-*` want
# a field in the answer that only its origin can write, from an origin that closes the connection instead. And
# it wants a 304 that names another ETag to update what is stored, which section 4.3.4 forbids.
AGAINST_THE_RFC = set(
    """
    age-parse-dup-0 age-parse-dup-0-twoline age-parse-dup-old age-parse-float age-parse-negative age-parse-nonnumeric
    age-parse-numeric-parameter age-parse-parameter age-parse-prefix-twoline stale-close-must-revalidate
    stale-close-no-cache stale-close-proxy-revalidate stale-close-s-maxage=2 304-etag-update-response-ETag
    """.split()
)

# The first wants If-Modified-Since to match a response without Last-Modified whose Date is later (RFC 9111,
# section 4.3.2 says otherwise). The others are about a part without validator: RFC 9111, section 3.4 forbids to
# combine such parts, and three of them rest on a Content-Range that claims a byte more than there is.
NOT_WANTED = set(
    """
    conditional-lm-fresh-no-lm partial-store-partial-reuse-partial-byterange
    partial-store-partial-reuse-partial-absent partial-store-partial-reuse-partial-suffix
    partial-store-partial-complete
    """.split()
)

# By edition and kind, what fails or cannot be judged because something that it depends on fails.
KNOWN_FAILURES = {
    "registry": {"required": AGAINST_THE_RFC, "optimal": NOT_WANTED},
    "github": {"required": set(), "optimal": NOT_WANTED},
}


@pytest.fixture(scope="module")
def cache_tests(tmp_path_factory):
    """The package with its origin running."""
    tests = CacheTests(FOLDER, tmp_path_factory.mktemp("http-cache-tests"))
    yield tests
    tests.close()


@pytest.fixture(scope="module")
def cache(module_launch, cache_tests):
    """The address of an edge in front of that origin. Two tests want responses that set a cookie kept, which an operator has to ask for."""
    return module_launch.edge([cache_tests.address], edge={"cache": {"memory": "256MiB", "store_set_cookie": True}}).http


@pytest.mark.skipif(CACHE_TEST is not None, reason="CACHE_TEST names one test")
def test_exactly_the_known_cache_tests_fail(cache_tests, cache):
    """Required and optimal ones; what merely asks how a cache behaves is printed and not judged."""
    runs = [cache_tests.run(cache) for _ in range(RUNS)]
    verdicts = runs[0]
    _print(cache_tests.edition, verdicts)

    for number, others in enumerate(runs[1:], start=2):
        differ = [
            f"run 1: {verdicts.get(test_id)}\nrun {number}: {others.get(test_id)}"
            for test_id in sorted(verdicts.keys() | others.keys())
            if _outcome(verdicts.get(test_id)) != _outcome(others.get(test_id))
        ]
        assert not differ, "\n".join(differ)

    for kind, known in KNOWN_FAILURES[cache_tests.edition].items():
        failing = {one.id for one in verdicts.values() if one.kind == kind and not one.succeeded}
        new = "\n".join(str(verdicts[test_id]) for test_id in sorted(failing - known))
        gone = " ".join(sorted(known - failing))
        assert not new, f"{kind} tests that fail and are not known to:\n{new}"
        assert not gone, f"{kind} tests that no longer fail, to be taken off the list: {gone}"


@pytest.mark.skipif(CACHE_TEST is None, reason="CACHE_TEST names no test")
def test_the_named_cache_test_passes(cache_tests, cache):
    """By itself: what it depends on is not run."""
    succeeded, exchange = cache_tests.run_one(cache, CACHE_TEST)
    print(exchange)
    assert succeeded, f"{CACHE_TEST} does not pass"


def _outcome(verdict):
    """What must not change from run to run; messages hold dates and addresses."""
    return verdict and (verdict.verdict, verdict.error)


def _print(edition, verdicts):
    failed = [one for one in verdicts.values() if not one.succeeded]
    for one in sorted(failed, key=lambda one: (one.kind != "required", one.kind != "optimal", one.suite)):
        print(one)
    for kind in ("required", "optimal", "check"):
        counts = Counter(one.verdict for one in verdicts.values() if one.kind == kind)
        parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        print(f"{edition} edition, {kind}: {counts.total()} run, {parts}")
