"""Servers on the loopback for tests of remote storage: S3's protocol, and HTTP that misbehaves."""

import os
import re
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Faults:
    """What a server does wrong; counts requests by path.

    Attributes:
        drop: how many of the next answers are cut off in their middle.
        refuse: how many of the next requests are answered with "service unavailable".
        is_down: every request is refused.
        flip: a byte of every answer to requests for this name is changed.
    """

    def __init__(self):
        self.drop = 0
        self.refuse = 0
        self.is_down = False
        self.flip = None
        self.requests = []
        self.lock = threading.Lock()

    def takes(self, fault):
        with self.lock:
            left = getattr(self, fault)
            setattr(self, fault, max(0, left - 1))
            return left > 0

    def count(self, name):
        return sum(path.endswith(name) for path in self.requests)


class _Handler(SimpleHTTPRequestHandler):
    """Serves files with Range, as nginx does, with the faults that a test asks for."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args, faults, **options):
        self.faults = faults
        super().__init__(*args, **options)

    def log_message(self, *args):
        pass

    def do_GET(self):
        with self.faults.lock:
            self.faults.requests.append(self.path)
        path = Path(self.translate_path(self.path))
        if self.faults.is_down or self.faults.takes("refuse"):
            self.send_error(503)
        elif not path.is_file():
            super().do_GET()
        else:
            self._send(path)

    def _send(self, path):
        content = bytearray(path.read_bytes())
        if self.faults.flip == path.name:
            content[700] ^= 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        body = content[int(wanted[1]) : int(wanted[2]) + 1] if wanted else content
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.faults.takes("drop"):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextmanager
def http_server(folder):
    """Serve `folder`; yields its URL and the faults."""
    faults = Faults()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Handler, faults=faults, directory=os.fspath(folder))
    )
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
