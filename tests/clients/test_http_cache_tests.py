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
# a field in the answer that only its origin can write, from an origin that closes the connection instead.
AGAINST_THE_RFC = set(
    """
    age-parse-dup-0 age-parse-dup-0-twoline age-parse-dup-old age-parse-float age-parse-negative age-parse-nonnumeric
    age-parse-numeric-parameter age-parse-parameter stale-close-must-revalidate stale-close-no-cache
    stale-close-proxy-revalidate stale-close-s-maxage=2
    """.split()
)

# By edition and kind, what fails or cannot be judged because something that it depends on fails. To shrink.
KNOWN_FAILURES = {
    "registry": {
        "required": AGAINST_THE_RFC
        | set(
            """
            age-parse-prefix status-400-stale status-500-stale status-502-stale status-503-stale status-504-stale
            status-599-stale status-599-must-understand headers-store-Content-Range headers-store-Set-Cookie
            304-etag-update-response-Content-MD5 304-etag-update-response-Content-Range
            304-etag-update-response-Content-Type 304-etag-update-response-Set-Cookie invalidate-POST-location
            invalidate-PUT-location invalidate-DELETE-location invalidate-M-SEARCH-location invalidate-POST-cl
            invalidate-PUT-cl invalidate-DELETE-cl invalidate-M-SEARCH-cl surrogate-max-age-other-target
            surrogate-max-age-age surrogate-max-age-0 surrogate-max-age-0-expires surrogate-max-age-long-cc-max-age
            surrogate-no-store-cc-fresh surrogate-fresh-cc-nostore
            """.split()
        ),
        "optimal": set(
            """
            heuristic-203-cached heuristic-204-cached heuristic-404-cached heuristic-405-cached heuristic-410-cached
            heuristic-414-cached heuristic-501-cached heuristic-599-cached method-POST status-400-fresh
            status-500-fresh status-502-fresh status-503-fresh status-504-fresh status-599-fresh
            vary-normalise-lang-order vary-normalise-lang-case vary-normalise-lang-select conditional-lm-fresh-no-lm
            partial-store-partial-reuse-partial partial-store-partial-reuse-partial-byterange
            partial-store-partial-reuse-partial-absent partial-store-partial-reuse-partial-suffix
            partial-store-partial-complete other-set-cookie surrogate-max-age surrogate-max-age-max
            surrogate-max-age-max-plus surrogate-max-age-me-target surrogate-max-age-extension
            surrogate-max-age-case-insensitive surrogate-max-age-expires surrogate-max-age-cc-max-age-invalid-expires
            surrogate-max-age-short-cc-max-age
            """.split()
        ),
    },
    "github": {
        "required": set(
            """
            age-parse-prefix age-parse-prefix-twoline stale-while-revalidate-window stale-close-must-revalidate
            stale-close-proxy-revalidate stale-close-no-cache stale-close-s-maxage=2 status-400-stale status-500-stale
            status-502-stale status-503-stale status-504-stale status-599-stale status-599-must-understand
            headers-store-Content-Range headers-store-Set-Cookie cdn-max-age-age cdn-max-age-0 cdn-max-age-0-expires
            cdn-max-age-long-cc-max-age cdn-private cdn-no-cache cdn-no-store-cc-fresh cdn-fresh-cc-nostore
            cdn-cc-invalid-sh-type-unknown cdn-cc-invalid-sh-type-wrong interim-not-cached
            """.split()
        ),
        "optimal": set(
            """
            freshness-expires-ansi-c freshness-expires-wrong-case-weekday freshness-expires-wrong-case-month
            freshness-expires-wrong-case-tz stale-while-revalidate heuristic-203-cached heuristic-204-cached
            heuristic-404-cached heuristic-405-cached heuristic-410-cached heuristic-414-cached heuristic-501-cached
            heuristic-599-cached method-POST status-400-fresh status-500-fresh status-502-fresh status-503-fresh
            status-504-fresh status-599-fresh status-200-must-understand vary-normalise-lang-order
            vary-normalise-lang-case vary-normalise-lang-select conditional-lm-fresh-no-lm
            partial-store-partial-reuse-partial partial-store-partial-reuse-partial-byterange
            partial-store-partial-reuse-partial-absent partial-store-partial-reuse-partial-suffix
            partial-store-partial-complete other-set-cookie cdn-max-age cdn-max-age-max cdn-max-age-max-plus
            cdn-max-age-extension cdn-max-age-expires cdn-max-age-cc-max-age-invalid-expires
            cdn-max-age-short-cc-max-age interim-102 interim-103 interim-no-header-reuse
            """.split()
        ),
    },
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
