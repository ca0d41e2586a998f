"""Signers that others have written against the edge: what they sign is answered, and any change of it is refused.

botocore and @aws-sdk/cloudfront-signer for CloudFront, PyJWT, nginx and openssl for secure links, Python's hmac for tokens.
SEED replays the mutations of a run.
"""

import datetime
import hashlib
import hmac
import http.client
import http.server
import json
import os
import random
import re
import subprocess
import threading
import time
from urllib.parse import quote, unquote, urlsplit

import jwt
import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from harness import raw
from harness.node import REPOSITORY, run
from harness.ports import free_port
from harness.waiting import Deadline

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
MUTATIONS = 50
SECRET = "known-to-both-ends"
EXPRESSION = "$secure_link_expires$uri$remote_addr $secret"
# As an origin may name its objects; dot segments and encoded slashes are refused by the gate on purpose.
NAMES = [
    "plain.ts",
    "folder/file name.mp4",
    "a+b c%20d%2Bd",
    "100%",
    "%41%zz",
    "a//b///c",
    "trailing/slash/",
    "trailing.dots...",
    "?question&and=equals#hash",
    "quotes'\"`(brackets)[]{}<>",
    "semi;colon,comma:at@dollar$star*bang!",
    "pipe|caret^tilde~under_score-",
    "grüße/日本語/Ελληνικά",
    "emoji 🎬🍿/👩‍👩‍👧‍👦.mp4",
    "a" * 1024,
    "é" * 512,
    "+ %" * 300,
]
PATHS = ["/" + quote(name, safe="/") for name in NAMES]


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers with the target that it was asked for, and remembers the fields."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_GET(self):  # noqa: N802 - the library calls it so
        self.seen.append((self.path, dict(self.headers)))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Silent: a test says what matters."""


class Keys:
    """Key pairs, and the files that the edge reads."""

    def __init__(self, folder):
        self.folder = folder
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.p256 = ec.generate_private_key(ec.SECP256R1())
        self.ed25519 = ed25519.Ed25519PrivateKey.generate()
        self._write("rsa.pem", _public_pem(self.rsa))
        self._write("p256.pem", _public_pem(self.p256))
        self._write("shared.key", SECRET)
        jwks = [
            {"kty": "oct", "kid": "hs", "k": _base64url(SECRET.encode() * 2)},
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key())) | {"kid": "rs"},
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.p256.public_key())) | {"kid": "es"},
            json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.ed25519.public_key())) | {"kid": "ed"},
        ]
        self._write("jwks.json", json.dumps({"keys": jwks}))

    def _write(self, name, text):
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)

    def settings(self):
        file = lambda name: str(self.folder / name)  # noqa: E731 - a name for one expression
        secret = {"secret_file": file("shared.key")}
        return [
            {"id": "RSA", "scheme": "cloudfront", "public_key_file": file("rsa.pem")},
            {"id": "P256", "scheme": "cloudfront", "public_key_file": file("p256.pem")},
            {"id": "token", "scheme": "token", **secret},
            {"id": "link", "scheme": "secure_link", "expression": EXPRESSION, **secret},
            {"id": "jwt", "scheme": "jwt", "jwks_file": file("jwks.json"), "audience": "edge"},
            {"id": "uri", "scheme": "uri_signing", "jwks_file": file("jwks.json")},
        ]


def _public_pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def _private_pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def _base64url(data):
    return jwt.utils.base64url_encode(data).decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def node(module_launch, keys):
    """An edge with a key of each scheme in front of an origin that echoes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    section = {"signing": {"keys": keys.settings()}, "access_log": "off"}
    yield module_launch.edge([f"127.0.0.1:{server.server_port}"], access="signed", edge=section)
    server.shutdown()


@pytest.fixture
def edge(node):
    edge = Edge(node)
    yield edge
    edge.connection.close()


class Edge:
    """Asks for what is signed, and for what is not."""

    def __init__(self, node):
        self.node = node
        self.connection = raw.Connection(node.http)

    @property
    def base(self):
        return f"http://{self.node.http}"

    def assert_granted(self, url, path, fields=()):
        """What the origin was asked for."""
        (reply,) = self.connection.exchange([_request(url, fields)])
        assert (reply.status, reply.body.split(b"?")[0]) == (200, path.encode()), (url, reply)
        return reply.body.decode()

    def assert_refused(self, url, fields=()):
        self._assert_refused([(url, fields)])

    def assert_only_url_granted(self, url, path, *, changed_from=None):
        """A URL is granted, and nothing that differs from it in a character at `changed_from` or behind."""
        asked_for = self.assert_granted(url, path)
        start = len(self.base) if changed_from is None else changed_from
        self._assert_refused([(mutated, ()) for mutated in _mutations(url, start, _meaning_of_url)])
        return asked_for

    def assert_only_cookies_granted(self, url, path, cookies):
        """The same for a URL with cookies, of which one differs in a character."""
        self.assert_granted(url, path, [("Cookie", cookies)])
        mutations = _mutations(cookies, 0, _meaning_of_cookies)
        self._assert_refused([(url, [("Cookie", mutated)]) for mutated in mutations])

    def assert_only_bearer_granted(self, url, path, token):
        """The same for a URL with a token in Authorization."""
        self.assert_granted(url, path, [("Authorization", f"Bearer {token}")])
        mutations = _mutations(token, 0, str.lower)
        self._assert_refused([(url, [("Authorization", f"Bearer {mutated}")]) for mutated in mutations])

    def _assert_refused(self, changed):
        replies = self.connection.exchange([_request(url, fields) for url, fields in changed])
        for (url, fields), reply in zip(changed, replies, strict=True):
            # What the gate does not let in is refused before its signature is looked at.
            assert reply.status in (400, 403), (f"seed {SEED}", url, fields, reply)
            if reply.status == 403:
                words = re.sub(b"<RequestId>.*", b"", reply.body)
                assert words.endswith(b"<Message>Access Denied.</Message>"), reply


def _request(url, fields):
    """A GET whose host is sent and not looked up, and whose target goes out as it is."""
    host = urlsplit(url).netloc
    return raw.request(url[url.index(host) + len(host) :], host, fields=fields)


def _mutations(text, start, meaning):
    """The text with one character replaced, removed or doubled from `start` on, in so many ways that change its meaning."""
    chance = random.Random(f"{SEED} {text}")
    drawn = set()
    while len(drawn) < MUTATIONS:
        at = chance.randrange(start, len(text))
        own = text[at]
        other = chance.choice([c for c in "abcXYZ019-_~" if c != own])
        mutated = text[:at] + chance.choice([other, "", own + own]) + text[at + 1 :]
        if meaning(mutated) != meaning(text):
            drawn.add(mutated)
    return sorted(drawn)


def _meaning_of_url(url):
    """`%aF` and `%af` are one byte; an item of a query that is empty says nothing."""
    return url.lower().replace("&&", "&")


def _meaning_of_cookies(cookies):
    """Space around cookies, and empty ones, say nothing."""
    cookies = [cookie.strip() for cookie in cookies.lower().split(";")]
    return [cookie for cookie in cookies if cookie]


def _in_an_hour():
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)


def _seconds(moment):
    return int(moment.timestamp())


def test_cloudfront_urls_of_botocore_are_granted_as_they_are_and_no_other(edge, keys):
    signers = {
        "RSA": CloudFrontSigner("RSA", lambda text: keys.rsa.sign(text, padding.PKCS1v15(), hashes.SHA1())),  # noqa: S303
        "P256": CloudFrontSigner("P256", lambda text: keys.p256.sign(text, ec.ECDSA(hashes.SHA1()))),  # noqa: S303
    }
    for signer in signers.values():
        for path in PATHS:
            url = signer.generate_presigned_url(f"{edge.base}{path}?size=1", date_less_than=_in_an_hour())
            assert edge.assert_only_url_granted(url, path).endswith("?size=1")
            policy = signer.build_policy(
                f"http*://*{path[:3]}*", _in_an_hour(), date_greater_than=_in_an_hour() - datetime.timedelta(hours=2),
                ip_address="127.0.0.0/8",
            )
            url = signer.generate_presigned_url(f"{edge.base}{path}", policy=policy)
            edge.assert_only_url_granted(url, path, changed_from=url.index("?Policy=") + 1)


def test_cloudfront_urls_and_cookies_of_the_sdk_for_javascript_are_granted(edge, keys):
    policies = [
        json.dumps({"Statement": [{"Resource": f"{edge.base}{path[:2]}*", "Condition": {
            "DateLessThan": {"AWS:EpochTime": _seconds(_in_an_hour())}}}]})
        for path in PATHS
    ]
    question = {
        "urls": [f"{edge.base}{path}" for path in PATHS],
        "policies": policies,
        "keyPairId": "RSA",
        "dateLessThan": _in_an_hour().isoformat().replace("+00:00", "Z"),
        "privateKey": _private_pem(keys.rsa),
    }
    script = REPOSITORY / "tests/clients/cloudfront_signer_js/sign.mjs"
    modules = REPOSITORY / "target/cloudfront-signer-js"
    done = subprocess.run(
        ["node", script, modules], input=json.dumps(question), capture_output=True, text=True, check=True, timeout=30
    )
    answer = json.loads(done.stdout)
    for at, path in enumerate(PATHS):
        canned, custom = answer["canned"][at], answer["custom"][at]
        for signed, changed_from in [(canned, None), (custom, custom.index("?") + 1)]:
            # It spells some characters in another way than Python, and signs what it has spelled.
            spelled = urlsplit(signed).path
            assert unquote(spelled) == unquote(path)
            edge.assert_only_url_granted(signed, spelled, changed_from=changed_from)
        cookies = "; ".join(f"{name}={value}" for name, value in answer["cookies"][at].items())
        edge.assert_only_cookies_granted(f"{edge.base}{path}", path, cookies)
        edge.assert_refused(f"{edge.base}/-other", [("Cookie", cookies)])


def test_one_cookie_opens_a_tree_that_is_stored_once_and_reaches_no_origin(edge, keys):
    signer = CloudFrontSigner("RSA", lambda text: keys.rsa.sign(text, padding.PKCS1v15(), hashes.SHA256()))
    resource = f"{edge.base}/hls/*"
    signed = [
        signer.generate_presigned_url(f"{edge.base}/", policy=signer.build_policy(resource, _in_an_hour()))
        for _ in range(2)
    ]
    cookies = [
        "; ".join([f"CloudFront-{pair}" for pair in urlsplit(url).query.split("&")] + ["CloudFront-Hash-Algorithm=SHA256"])
        for url in signed
    ]
    before = len(Origin.seen)
    for path in ["/hls/index.m3u8", "/hls/720p/index.m3u8", "/hls/720p/00001.ts"]:
        for cookie in cookies:
            edge.assert_granted(f"{edge.base}{path}", path, [("Cookie", cookie)])
    seen = Origin.seen[before:]
    assert [target for target, _ in seen] == ["/hls/index.m3u8", "/hls/720p/index.m3u8", "/hls/720p/00001.ts"]
    assert not any("Cookie" in fields for _, fields in seen)


def _token(text, hidden=""):
    digest = hmac.new(SECRET.encode(), (text + hidden).encode(), hashlib.sha256).hexdigest()
    return f"{text}~hmac={digest}"


def _escaped(text):
    """As signers escape a text that they put into a token: in lower case."""
    escaped = quote(text, safe="").replace("~", "%7E")
    return re.sub("%..", lambda escape: escape[0].lower(), escaped)


def test_tokens_of_python_are_granted_for_their_path_and_no_other(edge):
    expires = int(time.time()) + 3600
    for path in PATHS:
        token = _token(f"exp={expires}", f"~url={path}")
        url = f"{edge.base}{path}?hdnts={token}"
        edge.assert_only_url_granted(url, path)
        # A list may be escaped before it is hashed, and must be when it holds what separates fields.
        listed = _token(f"st={expires - 7200}~exp={expires}~acl={_escaped(path)}%21%2fx%2f%2a~ip=127.0.0.1")
        edge.assert_only_cookies_granted(f"{edge.base}{path}", path, f"hdnts={listed}")
        edge.assert_refused(f"{edge.base}/y{path}", [("Cookie", f"hdnts={listed}")])
        if "~" not in path:
            listed = _token(f"exp={expires}~acl={path}!/x/*")
            edge.assert_only_url_granted(f"{edge.base}/hdnts={listed}{path}", path)
            edge.assert_refused(f"{edge.base}/hdnts={listed}/y{path}")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    """nginx with a secure link, as its manual has it, and slashes left alone; its address."""
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    )
    expression = EXPRESSION.replace("$secret", SECRET)
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{}}
        http {{ access_log off; {temporary}
          server {{
            listen 127.0.0.1:{port}; merge_slashes off; large_client_header_buffers 4 16k;
            location / {{
              secure_link $arg_md5,$arg_expires;
              secure_link_md5 "{expression}";
              if ($secure_link = "") {{ return 403; }}
              if ($secure_link = "0") {{ return 410; }}
              return 200 granted;
            }}
          }}
        }}""")
    path = f"{os.environ['PATH']}:/usr/sbin"
    process = subprocess.Popen(
        ["nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf"], env=os.environ | {"PATH": path}
    )
    address = f"127.0.0.1:{port}"
    deadline = Deadline(20)
    while True:
        try:
            http.client.HTTPConnection(address, timeout=5).connect()
            break
        except ConnectionRefusedError:
            assert process.poll() is None and not deadline.passed(), (folder / "error.log").read_text()
    yield address
    process.terminate()
    process.wait()


def test_links_of_the_one_liner_are_granted_by_nginx_and_by_us(edge, nginx):
    expires = int(time.time()) + 3600
    line = "openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d ="
    for name, path in zip(NAMES, PATHS, strict=True):
        text = f"{expires}/{name}127.0.0.1 {SECRET}"
        done = subprocess.run(["sh", "-c", line], input=text.encode(), capture_output=True, check=True, timeout=10)
        query = f"md5={done.stdout.decode().strip()}&expires={expires}"
        url = f"{edge.base}{path}?{query}"
        edge.assert_only_url_granted(url, path)
        assert _ask(nginx, f"{path}?{query}") == 200, path


def _ask(address, target):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.putrequest("GET", target)
    connection.endheaders()
    return connection.getresponse().status


def test_our_links_are_granted_by_nginx(edge, keys, nginx):
    for name in NAMES:
        url = _sign("--with", "secure-link", "--secret-file", keys.folder / "shared.key", "--expression", EXPRESSION,
                    "--client", "127.0.0.1", "--host", edge.node.http, f"/{name}")
        path = urlsplit(url).path
        assert path == "/" + quote(name, safe="/")
        edge.assert_granted(url, path)
        assert _ask(nginx, url.removeprefix(edge.base)) == 200, name
    code, *_ = run("sign", "--with", "secure-link", "--host", "h", "/a")
    assert code == 2


def _sign(*arguments):
    code, out, err = run("sign", *arguments)
    assert code == 0, err
    return out.strip().splitlines()[0]


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_tokens_of_pyjwt_are_granted_in_every_algorithm(edge, keys, algorithm):
    key, kid = {
        "HS256": (SECRET.encode() * 2, "hs"),
        "RS256": (keys.rsa, "rs"),
        "ES256": (keys.p256, "es"),
        "EdDSA": (keys.ed25519, "ed"),
    }[algorithm]

    def sign(claims):
        claims = {"exp": _in_an_hour(), "aud": ["edge", "others"]} | claims
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})

    for path in PATHS:
        # `*` and `?` in a path that is sent are escaped, so each path is a pattern for itself.
        token = sign({"path": path})
        url = f"{edge.base}{path}?token={token}"
        edge.assert_only_url_granted(url, path)
        edge.assert_only_bearer_granted(f"{edge.base}{path}", path, token)
        edge.assert_only_cookies_granted(f"{edge.base}{path}", path, f"token={token}")
    for change in [{"exp": 1}, {"aud": "others"}, {"nbf": _in_an_hour()}, {"path": "/other"}, {"path": 1}]:
        edge.assert_refused(f"{edge.base}/plain.ts?token={sign({'path': '/*'} | change)}")
    # What others have fallen for: no signature, and the public key as a secret.
    unsigned = jwt.encode({"exp": _in_an_hour(), "aud": "edge", "path": "/*"}, None, algorithm="none")
    edge.assert_refused(f"{edge.base}/plain.ts?token={unsigned}")
    header, claims, _ = sign({"path": "/*"}).split(".")
    confused = _base64url(json.dumps({"alg": "HS256", "kid": "rs"}).encode()) + f".{claims}"
    digest = hmac.new(_public_pem(keys.rsa).encode(), confused.encode(), hashlib.sha256).digest()
    edge.assert_refused(f"{edge.base}/plain.ts?token={confused}.{_base64url(digest)}")


def test_uri_signing_is_granted_for_the_url_or_the_expression_that_is_signed(edge, keys):
    def sign(container):
        return jwt.encode({"exp": _in_an_hour(), "cdniuc": container}, keys.p256, algorithm="ES256", headers={"kid": "es"})

    for path in PATHS:
        # RFC 9246 hashes a URL in normal form: quote() escapes what needs it, in upper case, and nothing else.
        digest = _base64url(hashlib.sha256(f"{edge.base}{path}".encode()).digest())
        token = sign(f"hash:sha-256;{digest}")
        url = f"{edge.base}{path}?URISigningPackage={token}"
        edge.assert_only_url_granted(url, path)
        edge.assert_only_url_granted(f"{edge.base}{path};URISigningPackage={token}", path)
        edge.assert_only_cookies_granted(f"{edge.base}{path}", path, f"URISigningPackage={token}")
        edge.assert_refused(f"{url}&further=1")
    token = sign(f"regex:{re.escape(edge.base)}/hls/[^?]*[.](ts|m3u8)")
    edge.assert_granted(f"{edge.base}/hls/a/1.ts?URISigningPackage={token}", "/hls/a/1.ts")
    edge.assert_refused(f"{edge.base}/hls/a/1.mp4?URISigningPackage={token}")


def test_what_the_command_line_signs_is_granted_and_explained(edge, node, keys):
    private = keys.folder / "private.pem"
    private.touch(mode=0o600)
    private.write_text(_private_pem(keys.p256))
    shared = keys.folder / "shared.key"
    host = ["--host", edge.node.http]
    config = node.arguments[-1]
    for arguments, scheme in [
        (["--with", "cloudfront", "--key-id", "P256", "--private-key-file", private], "cloudfront"),
        (["--with", "cloudfront", "--key-id", "P256", "--private-key-file", private, "--open", "*", "--client", "127.0.0.1"], "cloudfront"),
        (["--with", "token", "--secret-file", shared], "token"),
        (["--with", "token", "--secret-file", shared, "--open", "/f*", "--place", "path"], "token"),
        (["--with", "jwt", "--private-key-file", private, "--key-id", "es", "--audience", "edge"], "jwt"),
        (["--with", "uri-signing", "--private-key-file", private, "--key-id", "es"], "uri_signing"),
        (["--with", "uri-signing", "--private-key-file", private, "--key-id", "es", "--place", "path"], "uri_signing"),
    ]:
        url = _sign(*arguments, *host, "/films/ä b.mp4")
        edge.assert_granted(url, "/films/%C3%A4%20b.mp4")
        code, out, err = run("verify", "--config", config, "--explain", url)
        assert code == 0, (out, err)
        assert out.startswith("valid: signed by ") and f"({scheme})" in out and f"\n{scheme}, signed:\n" in out
        code, out, _ = run("verify", "--config", config, "--explain", url.replace("b.mp4", "c.mp4"))
        assert SECRET not in out
        if "--open" in arguments:
            assert code == 0, out
            continue
        assert code == 1, out
        assert out.startswith("refused: ") and "\nnext: " in out
        if scheme == "token":
            assert "first difference:" in out and "^" in out
