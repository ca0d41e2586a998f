"""Configurations with free ports, and the nodes that run them."""

import json
from pathlib import Path

from .node import Node
from .ports import free_port
from .relay import Relay

ACCESS_KEY_ID = "suite"
SECRET = "a-secret-that-only-the-suites-know"
REGION = "us-east-1"


class Launcher:
    """Starts nodes in a folder of its own, and ends them all."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.nodes = []
        self.relays = []
        self._count = 0

    def up(self, *, folder=None, memory="256MiB", edge=None, store=None, relayed=False, small_pages=False):
        """`tidegate up --data`: edge with HTTP and HTTPS, store and admin in one process.

        `folder` is one that an earlier call has made, to start on the same data; `edge` and `store` are merged
        over these sections; `relayed` puts a relay between edge and store that counts, as `node.relay`;
        `small_pages` is what `Node` says.
        """
        if folder is None:
            folder = self._new_folder("up")
            relay = None
            ports = {name: f"127.0.0.1:{free_port()}" for name in ("admin", "http", "https", "s3")}
            if relayed:
                relay = Relay(ports["s3"])
                self.relays.append(relay)
            server = relay.address if relay else ports["s3"]
            section = edge_section(ports["http"], [server], https=ports["https"], memory=memory)
            config = {
                "admin": {"address": ports["admin"]},
                "edge": section | (edge or {}),
                "origin": store_section(ports["s3"]) | (store or {}),
            }
            _write(folder, config, ports)
        ports = json.loads((folder / "ports.json").read_text())
        node = Node(["up", "--data", folder], ca=folder / "ca.pem", small_pages=small_pages, **ports)
        node.folder = folder
        node.relay = self.relays[-1] if relayed else None
        return self._keep(node)

    def edge(self, origin_servers, *, memory="256MiB", access="public", edge=None):
        """`tidegate edge --config`: an edge without a store, plain HTTP."""
        folder = self._new_folder("edge")
        ports = {name: f"127.0.0.1:{free_port()}" for name in ("admin", "http")}
        section = edge_section(ports["http"], origin_servers, memory=memory, access=access)
        config = {"admin": {"address": ports["admin"]}, "edge": section | (edge or {})}
        file = _write(folder, config, ports)
        return self._keep(Node(["edge", "--config", file], **ports))

    def store(self, *, folder=None, store=None, credentials=None, small_pages=False):
        """`tidegate origin --config`: the store alone; `store` is merged over its section.

        `credentials` are more access keys: what a configuration says of each, with `secret` instead of a file;
        `small_pages` is what `Node` says.
        """
        if folder is None:
            folder = self._new_folder("store")
            ports = {name: f"127.0.0.1:{free_port()}" for name in ("admin", "s3")}
            section = store_section(ports["s3"]) | (store or {})
            for more in credentials or []:
                file = folder / f"{more['access_key_id']}.key"
                file.touch(mode=0o600)
                file.write_text(more["secret"])
                kept = {name: value for name, value in more.items() if name != "secret"}
                section["credentials"].append(kept | {"secret_file": file.name})
            _write(folder, {"admin": {"address": ports["admin"]}, "origin": section}, ports)
        ports = json.loads((folder / "ports.json").read_text())
        node = Node(["origin", "--config", folder / "tidegate.yaml"], small_pages=small_pages, **ports)
        node.folder = folder
        return self._keep(node)

    def _new_folder(self, name):
        self._count += 1
        folder = self.folder / f"{name}-{self._count}"
        folder.mkdir(parents=True)
        return folder

    def _keep(self, node):
        self.nodes.append(node)
        return node.wait_until_ready()

    def close(self):
        """Ends every node; fails when one of them had died or panicked."""
        for relay in self.relays:
            relay.close()
        complaints = {" ".join(node.arguments): node.close() for node in self.nodes}
        complaints = {name: found for name, found in complaints.items() if found}
        assert not complaints, complaints


def edge_section(http, origin_servers, *, https=None, memory="256MiB", access="signed"):
    listeners = [{"address": http}]
    if https:
        certificates = [{"chain": "site.pem", "key": "site.key"}]
        listeners.append({"address": https, "tls": {"certificates": certificates}})
    return {
        "listeners": listeners,
        "origins": {"store": {"servers": origin_servers}},
        "routes": [{"name": "media", "path": "/", "origin": "store", "access": access}],
        # Objects of a suite do not grow old while it looks at them.
        "cache": {"memory": memory, "default_ttl": "1h"},
        "signing": {"keys": [{"id": ACCESS_KEY_ID, "secret_file": "secret.key"}]},
        "access_log": "stdout",
    }


def store_section(address):
    return {
        "address": address,
        "data": "origin",
        "region": REGION,
        "credentials": [{"access_key_id": ACCESS_KEY_ID, "secret_file": "secret.key"}],
    }


def _write(folder, config, ports):
    secret = folder / "secret.key"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    (folder / "ports.json").write_text(json.dumps(ports))
    file = folder / "tidegate.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(config, indent=2))
    return file
