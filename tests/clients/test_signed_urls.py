"""Signatures at the edge: whatever is changed in a URL, it is refused, also when the object is cached.

SEED replays the random mutations of a run.
"""

import datetime
import os
import random
import re
import string
from urllib.parse import quote, unquote, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import s3
from harness.curl import curl
from harness.launch import ACCESS_KEY_ID, REGION, SECRET

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
MUTATIONS = 200
BODY = b"for those who may see it"
KEY = "films/one two.mp4"
# Characters that both spellings of a URI may hold without being escaped (RFC 3986 §2.3).
UNRESERVED = string.ascii_letters + string.digits + "-._~"


@pytest.fixture(scope="module", params=["h1", "h2"])
def lane(request, node):
    """How to reach the edge: scheme, address, options of curl. Put into the cache by a genuine GET."""
    client = s3.client(node.s3)
    for key in (KEY, "films/other.mp4"):
        client.put_object(Bucket="suite", Key=key, Body=BODY)
    if request.param == "h1":
        lane = Lane(node, "http", node.http, ["--http1.1"])
    else:
        lane = Lane(node, "https", node.https, ["--http2"])
    lane.get(lane.url())
    assert lane.get(lane.url()).is_hit
    return lane


class Lane:
    def __init__(self, node, scheme, address, options):
        self.node, self.scheme, self.address, self.options = node, scheme, address, options

    def url(self, key=KEY, **options):
        return s3.presign(self.address, "suite", key, scheme=self.scheme, **options)

    def dated(self, seconds_ago, expires_seconds, key=KEY):
        """A genuine URL that was signed earlier or later than now."""
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
        return _signed_at(moment, f"{self.scheme}://{self.address}/suite/{quote(key)}", expires_seconds)

    def get(self, url, *arguments):
        # The path goes out as it stands in the URL.
        return curl(url, *self.options, "--path-as-is", "--globoff", *arguments, ca=self.node.ca)

    def refused(self, url, reason, *arguments):
        """Asserts the one 403 that there is for the client, and this reason in the log."""
        reply = self.get(url, *arguments)
        assert reply.status == 403, url
        # The answer to a HEAD has no body.
        if "--head" not in arguments:
            assert _code(reply) == "AccessDenied"
            assert BODY not in reply.body
            assert f"<RequestId>{reply.fields['x-request-id']}</RequestId>".encode() in reply.body
        (record,) = self.node.wait_for_records(1, request_id=reply.fields["x-request-id"])
        assert (record["status"], record["outcome"], record["reason"]) == (403, "refused", reason)
        assert "X-Amz-" not in record.get("query", "")


def _signed_at(moment, url, expires_seconds):
    """botocore signs with its own clock and nothing else, so its signer is called with ours in between."""

    class At(S3SigV4QueryAuth):
        def add_auth(self, request):
            request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
            self._modify_request_before_signing(request)
            canonical = self.canonical_request(request)
            to_sign = self.string_to_sign(request, canonical)
            self._inject_signature_to_request(request, self.signature(to_sign, request))

    request = AWSRequest(method="GET", url=url)
    At(Credentials(ACCESS_KEY_ID, SECRET), "s3", REGION, expires=expires_seconds).add_auth(request)
    return request.url


def _code(reply):
    found = re.search(rb"<Code>(\w+)</Code>", reply.body)
    return found and found[1].decode()


def _replaced(url, name, value):
    """The URL with another value of one query parameter."""
    changed = re.sub(rf"(?<=[?&]){name}=[^&]*", lambda _: f"{name}={value}", url)
    assert changed != url
    return changed


def test_a_genuine_url_is_answered_from_the_cache(lane):
    reply = lane.get(lane.url(expires_seconds=604_800))
    assert (reply.status, reply.body, reply.is_hit) == (200, BODY, True)


def test_an_expired_url_is_refused_although_the_object_is_cached(lane):
    assert lane.get(lane.dated(60, 120)).is_hit
    lane.refused(lane.dated(3600, 3500), "expired")
    lane.refused(lane.dated(62, 60), "expired")


def test_a_url_from_the_future_is_refused_beyond_the_leeway_of_15_minutes(lane):
    assert lane.get(lane.dated(-800, 60)).is_hit
    lane.refused(lane.dated(-1000, 60), "not_yet_valid")


def test_a_url_for_longer_than_seven_days_is_refused(lane):
    lane.refused(lane.dated(0, 604_801), "expires_out_of_range")


MISMATCH = "signature_mismatch"
TODAY = "<today>"
ALTERED = [
    ("X-Amz-Algorithm", "AWS4-HMAC-SHA512", "unsupported_scheme"),
    ("X-Amz-Credential", f"stranger%2F{TODAY}%2Fus-east-1%2Fs3%2Faws4_request", "unknown_access_key_id"),
    ("X-Amz-Credential", f"{ACCESS_KEY_ID}%2F20200101%2Fus-east-1%2Fs3%2Faws4_request", "credential_date_mismatch"),
    # An edge without a region of its own takes any region, but not another one's signature.
    ("X-Amz-Credential", f"{ACCESS_KEY_ID}%2F{TODAY}%2Feu-west-1%2Fs3%2Faws4_request", MISMATCH),
    ("X-Amz-Credential", f"{ACCESS_KEY_ID}%2F{TODAY}%2Fus-east-1%2Fsqs%2Faws4_request", "wrong_service"),
    ("X-Amz-Credential", ACCESS_KEY_ID, "malformed_credential"),
    ("X-Amz-Date", f"{TODAY}T000000", "malformed_date"),
    ("X-Amz-Expires", "604800", MISMATCH),
    ("X-Amz-Expires", "0", "expires_out_of_range"),
    ("X-Amz-Expires", "forever", "malformed_expires"),
    ("X-Amz-SignedHeaders", "accept", "host_not_signed"),
    ("X-Amz-SignedHeaders", "host%3Bx-other", "signed_header_absent"),
    ("X-Amz-Signature", "0" * 64, MISMATCH),
    ("X-Amz-Signature", "0" * 63, "malformed_signature"),
    ("X-Amz-Signature", "", "malformed_signature"),
]


@pytest.mark.parametrize(("name", "value", "expected"), ALTERED)
def test_an_altered_query_parameter_is_refused(lane, name, value, expected):
    today = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    lane.refused(_replaced(lane.url(), name, value.replace(TODAY, today)), expected)


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_a_missing_or_repeated_parameter_is_refused(lane, name):
    url = lane.url()
    (item,) = re.findall(rf"X-Amz-{name}=[^&]*", url)
    missing = url.replace(item, "").replace("&&", "&").replace("?&", "?").rstrip("&")
    lane.refused(missing, "missing_parameter")
    lane.refused(f"{url}&{item}", "duplicate_parameter")


def test_any_added_or_changed_parameter_of_the_request_itself_is_refused(lane):
    lane.refused(f"{lane.url()}&versionId=1", MISMATCH)
    lane.refused(f"{lane.url()}&x=", MISMATCH)
    signed = lane.url(more={"ResponseContentType": "text/plain"})
    assert lane.get(signed).status == 200
    lane.refused(_replaced(signed, "response-content-type", "text%2Fhtml"), MISMATCH)


@pytest.mark.parametrize("path", ["/suite/films/other.mp4", "/suite/films/One%20two.mp4", "/suite/", "/", "/suite/films/one%20two.mp4/"])
def test_another_path_is_refused(lane, path):
    lane.refused(lane.url().replace("/suite/films/one%20two.mp4", path), MISMATCH)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS"])
def test_another_method_is_refused_and_does_nothing(lane, method):
    lane.refused(lane.url(), MISMATCH, "--request", method)
    assert lane.get(lane.url()).body == BODY


def test_head_needs_a_url_that_was_signed_for_head(lane):
    lane.refused(lane.url(), MISMATCH, "--head")
    assert lane.get(lane.url(method="head_object"), "--head").is_hit
    lane.refused(lane.url(method="head_object"), MISMATCH)


def test_another_host_is_refused(lane):
    port = lane.address.split(":")[1]
    # `localhost` is in the certificate; the connection goes to the same edge.
    other = lane.url().replace(lane.address, f"localhost:{port}")
    lane.refused(other, MISMATCH, "--connect-to", f"localhost:{port}:{lane.address}")


def test_an_unknown_key_and_a_wrong_secret_are_refused(lane):
    unknown = lane.url(access_key_id="stranger")
    lane.refused(unknown, "unknown_access_key_id")
    lane.refused(lane.url(secret="guessed"), MISMATCH)


def test_no_signature_at_all_is_refused(lane):
    lane.refused(lane.url().split("?")[0], "not_signed")


def test_an_unsigned_amz_field_is_refused(lane):
    lane.refused(lane.url(), "unsigned_header", "--header", "x-amz-meta-me: admin")


def test_refusals_are_counted_by_reason_and_never_reach_the_origin(lane):
    def refusals():
        metrics = lane.node.metrics()
        return (
            metrics.sum("tidegate_signature_refusals_total", reason="signature_mismatch"),
            metrics.sum("tidegate_requests_total", outcome="refused", status="403"),
            lane.node.origin_requests(),
        )

    before = refusals()
    for _ in range(3):
        lane.refused(_replaced(lane.url(), "X-Amz-Signature", "1" * 64), MISMATCH)
    assert [after - then for after, then in zip(refusals(), before)] == [3, 3, 0]


def test_200_random_mutations_are_all_refused(lane):
    """The judge of what is another request is `_meaning` below: plain RFC 3986, none of the code under test."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    origin_requests = lane.node.origin_requests()
    refused = spared = 0
    while refused < MUTATIONS:
        url = lane.url()
        base = f"{lane.scheme}://{lane.address}"
        target = url.removeprefix(base)
        mutant = _mutated(target, chance)
        if _meaning(mutant) == _meaning(target):
            spared += 1
            continue
        reply = lane.get(base + mutant)
        # What is not even a sound request target is turned away before its signature is looked at.
        assert reply.status in (400, 403), f"seed {SEED}: {reply.status} for {mutant}"
        assert BODY not in reply.body, f"seed {SEED}: {mutant}"
        assert not reply.is_hit
        refused += 1
    assert lane.node.origin_requests() == origin_requests
    print(f"{refused} mutations refused, {spared} drawn that change nothing")
    assert lane.get(lane.url()).is_hit


def _mutated(target, chance):
    """One change somewhere in path or query: a character replaced, dropped, doubled, two swapped."""
    place = chance.randrange(1, len(target))
    kind = chance.choice(["replace", "drop", "double", "insert", "swap", "case"])
    before, character, after = target[:place], target[place], target[place + 1 :]
    if kind == "replace":
        return before + chance.choice(UNRESERVED + "/&=%?+:;@") + after
    if kind == "drop":
        return before + after
    if kind == "double":
        return before + character * 2 + after
    if kind == "insert":
        return before + chance.choice(UNRESERVED + "/&=%?+:;@") + character + after
    if kind == "swap" and after:
        return before + after[0] + character + after[1:]
    return before + character.swapcase() + after


def _meaning(target):
    """What a target asks for, so that two spellings of one request are equal.

    Escaping is undone once in path and query (RFC 3986 §6.2.2), the order of the parameters does not count
    (SigV4 sorts them), nor do empty items between ampersands; a parameter without `=` has an empty value. Host,
    case and everything else do count. Malformed escapes stand for themselves, and so make a difference.
    """
    parts = urlsplit(target)
    items = [item.partition("=") for item in parts.query.split("&") if item]
    query = sorted((_unescaped(name), _unescaped(value)) for name, _, value in items)
    return _unescaped(parts.path), query


def _unescaped(text):
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        # No sound text begins so, because a target holds no such character unescaped.
        return "\n" + text
    return unquote(text, encoding="latin-1")
