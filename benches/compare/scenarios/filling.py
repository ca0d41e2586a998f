"""Filling a cache with many objects, and checking each as it comes."""

import hashlib
import http.client
import ssl

from place import CompareError

# Caches that write in the background or want to see demand first may need to be asked again.
MOST_PASSES = 10


def fill(bench, server, objects, scheme="http"):
    """Asks for all objects, (target, size, sha256) each, until every one comes from the cache, byte for byte."""
    for _ in range(MOST_PASSES):
        before = bench.origin.requests()
        ask_for(bench, server, objects, scheme)
        if bench.origin.requests() == before:
            return
    raise CompareError(f"{server.name} did not keep {len(objects)} objects in {MOST_PASSES} passes")


def ask_for(bench, server, objects, scheme="http"):
    """Asks once for each, (target, size, sha256), and checks its bytes."""
    if scheme == "https":
        context = ssl.create_default_context(cafile=bench.place.certificates / "ca.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", server.tls_port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.plain_port, timeout=60)
    try:
        for target, size, sha256 in objects:
            connection.request("GET", target)
            response = connection.getresponse()
            body = response.read()
            found = (response.status, len(body), hashlib.sha256(body).hexdigest())
            if found != (200, size, sha256):
                raise CompareError(f"{server.name} answered {target} with {found} instead of {(200, size, sha256)}")
    except (OSError, http.client.HTTPException) as error:
        raise CompareError(f"{server.name} broke off: {error!r}\n{server.log_tail()}") from error
    finally:
        connection.close()


def write_list(folder, name, targets):
    """A file with a target a line, for listed.lua."""
    path = folder / f"{name}.targets"
    path.write_text("".join(f"{target}\n" for target in targets))
    return path
