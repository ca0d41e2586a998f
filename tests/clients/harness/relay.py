"""A TCP relay between edge and store that counts what the store sends."""

import socket
import threading

_PIECE_BYTES = 64 * 1024
# The kernel's own choice grows to megabytes, and the relay would count what nobody has asked for yet.
_SOCKET_BUFFER_BYTES = 64 * 1024


class Relay:
    """Listens on a port of its own; every connection is passed to `target` (`host:port`), both ways."""

    def __init__(self, target):
        self._target = target
        # Bytes from the target, heads included.
        self.received_bytes = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, port = self._target.split(":")
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source, sink, count):
        try:
            while piece := source.recv(_PIECE_BYTES):
                if count:
                    with self._lock:
                        self.received_bytes += len(piece)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone; the other shall notice.
            for end in (source, sink):
                end.close()

    def close(self):
        self._listener.close()
