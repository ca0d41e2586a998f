"""Every signer against every key: what is signed is answered byte by byte, and any change of it is refused.

SEED replays the mutations of a run.
"""

import hashlib
import os
import random
import re
from urllib.parse import quote, unquote, urlsplit

import pytest

from harness import raw, s3, signers

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
MUTATIONS = 50
BUCKET = "suite"
DOMAIN = "s3.test"
ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# The gate refuses dot segments, backslashes, NUL and encoded slashes on purpose, so no key here has them.
KEYS = [
    "plain.txt",
    "folder/file name.mp4",
    " leading and trailing ",
    "a+b c%20d%2Bd",
    "100%",
    "%41%zz",
    "a//b///c",
    "/leading/slash",
    "trailing/slash/",
    "trailing.dots...",
    "..hidden/...",
    "?question&and=equals#hash",
    "quotes'\"`and(brackets)[]{}<>",
    "semi;colon,comma:at@dollar$star*bang!",
    "pipe|caret^tilde~underscore_dash-",
    "X-Amz-Signature=1&Signature=2",
    "grüße/日本語/Ελληνικά",
    "e\u0301 combining and \u00e9 not",
    "emoji 🎬🍿/👩‍👩‍👧‍👦.mp4",
    "right-to-left \u202e שלום",
    "tab\tand\u00a0no-break",
    "a" * 1024,
    "é" * 512,
    "%" * 1024,
    "+ %" * 300,
]
OVERRIDES = {
    "response-content-type": "text/x+plain; charset=utf-8",
    "response-content-disposition": "attachment; filename=\"a b+c%20&d.txt\"",
    "response-cache-control": "max-age=7",
    "response-content-encoding": "identity",
    "response-content-language": "de, en",
    "response-expires": "Thu, 01 Jan 2032 00:00:00 GMT",
}
BOTO3_NAMES = {name: "".join(word.title() for word in name.split("-")) for name in OVERRIDES}


@pytest.fixture(scope="module")
def node(module_launch):
    """Edge and store that know Version 2 and buckets in hosts, with an object under each key."""
    key = {"id": "suite", "secret_file": "secret.key", "allow_sigv2": True}
    credentials = {"access_key_id": "suite", "secret_file": "secret.key", "allow_sigv2": True}
    node = module_launch.up(
        edge={"signing": {"keys": [key], "domain": DOMAIN}, "access_log": "off"},
        store={"credentials": [credentials], "domain": DOMAIN},
    )
    client = s3.client(node.s3)
    client.create_bucket(Bucket=BUCKET)
    for key in KEYS:
        client.put_object(Bucket=BUCKET, Key=key, Body=_content(key))
    return node


@pytest.fixture(scope="module")
def urls(node, tmp_path_factory):
    """(signer, key, URL) of every signer, for every key that it can spell."""
    port = node.http.split(":")[1]
    path, virtual = f"http://{node.http}", f"http://{DOMAIN}:{port}"
    found = []

    def add(signer, keys, signed):
        found.extend(zip([signer] * len(keys), keys, signed, strict=True))

    for endpoint, style in [(path, "path"), (virtual, "virtual")]:
        for version in ["s3v4", "s3"]:
            options = {"version": version, "style": style}
            # botocore takes a slash off the beginning of a key that stands in a host's path.
            keys = [key for key in KEYS if not key.startswith("/")] if style == "virtual" else KEYS
            plain = [("get_object", {"Bucket": BUCKET, "Key": key}) for key in keys]
            add(f"boto3-{version}-{style}", keys, signers.boto3_urls(endpoint, plain, **options))
            more = {BOTO3_NAMES[name]: value for name, value in OVERRIDES.items()}
            overriding = [(name, parameters | more) for name, parameters in plain]
            add(f"boto3-{version}-{style}-overriding", keys, signers.boto3_urls(endpoint, overriding, **options))
            few = plain[:5]
            tokened = signers.boto3_urls(endpoint, few, **options, token="session/token+of=somebody")
            add(f"boto3-{version}-{style}-token", keys[:5], tokened)
        requests = [(BUCKET, key, None) for key in keys]
        add(f"minio-{style}", keys, signers.minio_urls(endpoint, requests, style=style))
    keys = [key for key in KEYS if not key.startswith("/")]
    requests = [
        {
            "operation": "GetObject",
            "endpoint": endpoint,
            "pathStyle": style,
            "input": {"Bucket": BUCKET, "Key": key},
            "expiresIn": signers.EXPIRES_SECONDS,
        }
        for endpoint, style in [(path, True), (virtual, False)]
        for key in keys
    ]
    add("aws-sdk-js", keys * 2, signers.aws_sdk_js(requests))
    keys = ["plain.txt", "folder/file name.mp4", "a+b c%20d%2Bd", "grüße/日本語/Ελληνικά", "?question&and=equals#hash"]
    folder = tmp_path_factory.mktemp("rclone")
    add("rclone", keys, signers.rclone_links(path, BUCKET, keys, folder=folder))
    assert len(found) >= 300
    return found


@pytest.fixture
def edge(node):
    connection = raw.Connection(node.http)
    yield connection
    connection.close()


def _content(key):
    return hashlib.sha256(key.encode()).hexdigest().encode()


def _parts(url):
    """Host, and the target as a client sends it."""
    parts = urlsplit(url)
    assert not parts.fragment
    return parts.netloc, f"{parts.path}?{parts.query}"


def test_every_url_is_answered_with_the_bytes_of_its_object(urls, edge):
    requests = []
    for _, _, url in urls:
        host, target = _parts(url)
        requests.append(raw.request(target, host))
    for (signer, key, url), reply in zip(urls, edge.exchange(requests), strict=True):
        assert (reply.status, reply.body) == (200, _content(key)), f"{signer}: {reply} for {url}"
        if signer.endswith("-overriding"):
            for name, value in OVERRIDES.items():
                assert reply.fields[name.removeprefix("response-")] == value, f"{signer}: {url}"


def test_signers_share_what_is_stored_and_overrides_do_not(node, urls, edge):
    """For each host and key one object without overrides and one with them, whoever signed."""
    requests = [raw.request(*reversed(_parts(url))) for _, _, url in urls]
    edge.exchange(requests)
    before = node.origin_requests()
    assert all(reply.is_hit for reply in edge.exchange(requests))
    assert node.origin_requests() == before
    text = signers.boto3_urls(
        f"http://{node.http}",
        [("get_object", {"Bucket": BUCKET, "Key": "plain.txt", "ResponseContentType": f"text/{n}"}) for n in "ab"],
    )
    replies = [edge.ask(target, host) for host, target in map(_parts, text * 2)]
    assert [reply.fields["content-type"] for reply in replies] == ["text/a", "text/b"] * 2
    assert [reply.is_hit for reply in replies] == [False, False, True, True]


def test_the_order_of_parameters_and_the_spelling_of_escapes_do_not_matter(urls, edge):
    requests = []
    for signer, key, url in urls:
        host, target = _parts(url)
        path, _, query = target.partition("?")
        query = "&".join(reversed(query.split("&")))
        query = re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), query)
        requests.append(raw.request(f"{path}?{query}", host))
    for (signer, key, _), reply in zip(urls, edge.exchange(requests), strict=True):
        assert (reply.status, reply.body) == (200, _content(key)), f"{signer}: {key}"


def test_every_url_changed_in_50_ways_is_refused_in_the_same_words(node, urls, edge):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    mutants = []
    for signer, _, url in urls:
        host, target = _parts(url)
        version_2 = "AWSAccessKeyId=" in target
        drawn = set()
        while len(drawn) < MUTATIONS:
            mutant = _mutated(host, target, chance, version_2)
            if mutant is not None:
                drawn.add(mutant)
        mutants.extend((signer, url, *mutant) for mutant in sorted(drawn))
    assert len(mutants) >= 300 * MUTATIONS
    before = node.origin_requests()
    replies = edge.exchange([raw.request(target, host) for _, _, host, target in mutants])
    words = set()
    for (signer, url, host, target), reply in zip(mutants, replies, strict=True):
        assert reply.status == 403, f"seed {SEED}, {signer}: {reply.status} for {host}{target} made of {url}"
        words.add(re.sub(rb"<RequestId>\w+</RequestId>", b"", reply.body))
    assert len(words) == 1, sorted(words)
    assert node.origin_requests() == before


def _mutated(host, target, chance, version_2):
    """Host and target with one change; None when the draw changes nothing."""
    path, _, query = target.partition("?")
    items = query.split("&")
    # Version 2 signs of the host only the bucket in it.
    has_bucket = host.startswith(f"{BUCKET}.")
    kinds = ["path", "query", "query", "query", "signature", "add", "remove", "duplicate"]
    if has_bucket or not version_2:
        kinds.append("host")
    kind = chance.choice(kinds)
    if kind == "host":
        end = len(BUCKET) if version_2 else len(host)
        changed = _replaced(host[:end], chance)
        return None if changed is None else (changed + host[end:], target)
    if kind == "path":
        changed = _replaced(path[1:], chance)
        return None if changed is None else (host, f"/{changed}?{query}")
    place = chance.randrange(len(items))
    if kind == "signature":
        (place,) = [place for place, item in enumerate(items) if re.match("(X-Amz-)?Signature=", item)]
    if kind in ("query", "signature"):
        changed = _replaced(items[place], chance)
        if changed is None:
            return None
        items[place] = changed
    elif kind == "add":
        items.insert(place, chance.choice(["x=1", "versionId=1", "response-content-type=text/html", "acl", "a%26b=c"]))
        if len({item.partition("=")[0] for item in items}) < len(items):
            return None
    elif kind == "remove":
        del items[place]
    else:
        items.insert(chance.randrange(len(items) + 1), items[place])
    return host, f"{path}?{'&'.join(items)}"


def _replaced(text, chance):
    """The text with one character, or one escape as a whole, replaced by a letter or digit."""
    pieces = re.findall("%[0-9A-Fa-f]{2}|.", text)
    place = chance.randrange(len(pieces))
    put = chance.choice(ALPHANUMERIC)
    # Digits of a port stay digits: a host with another port is another host, one with letters is none.
    if re.search(r":\d+$", text) and ":" not in pieces[place + 1 :]:
        put = chance.choice("0123456789")
    if pieces[place] in ("/", ":") or unquote(pieces[place]).lower() == put.lower():
        return None
    pieces[place] = put
    return "".join(pieces)


def test_signed_fields_reach_the_verification(node, edge):
    """A Range that is signed must be sent as it was signed, also when the object is stored."""
    client = signers.boto3_client(f"http://{node.http}")
    ranged = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "plain.txt", "Range": "bytes=2-5"})
    matching = client.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": "plain.txt", "IfNoneMatch": '"other"'}
    )
    for url, signed, other, expected in [
        (ranged, ("Range", "bytes=2-5"), ("Range", "bytes=2-6"), (206, _content("plain.txt")[2:6])),
        (matching, ("If-None-Match", '"other"'), ("If-None-Match", "*"), (200, _content("plain.txt"))),
    ]:
        host, target = _parts(url)
        reply = edge.ask(target, host, fields=[signed])
        assert (reply.status, reply.body) == expected
        assert edge.ask(target, host, fields=[other]).status == 403
        assert edge.ask(target, host).status == 403


def test_head_is_judged_as_head_whatever_the_cache_holds(node, edge):
    client = signers.boto3_client(f"http://{node.http}")
    urls = {
        method: client.generate_presigned_url(f"{method.lower()}_object", Params={"Bucket": BUCKET, "Key": quote("plain.txt")})
        for method in ["GET", "HEAD"]
    }
    for signed_for, url in urls.items():
        host, target = _parts(url)
        statuses = {sent: edge.ask(target, host, method=sent).status for sent in urls}
        assert statuses == {sent: 200 if sent == signed_for else 403 for sent in urls}
