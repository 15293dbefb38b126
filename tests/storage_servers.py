"""Servers on the loopback for tests of remote storage: S3's protocol, and HTTP that misbehaves."""

import os
import re
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer


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


class DroppingProxy(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server; cuts the next `drop` connections after `after_bytes` of them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), _Passing)
        self.port = port
        self.drop = 0
        self.after_bytes = 20_000
        self.dropped = 0
        self.lock = threading.Lock()


class _Passing(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            back = threading.Thread(target=self._pass, args=(upstream, self.request), daemon=True)
            back.start()
            self._pass(self.request, upstream, is_request=True)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            back.join()

    def _pass(self, source, target, *, is_request=False):
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if is_request and passed > self.server.after_bytes and self._drops():
                    source.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)

    def _drops(self):
        with self.server.lock:
            if not self.server.drop:
                return False
            self.server.drop -= 1
            self.server.dropped += 1
            return True


@contextmanager
def s3_server():
    """Run a server that speaks S3 behind a proxy, which is yielded; $AWS_... point to it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    proxy = DroppingProxy(server.get_host_and_port()[1])
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_address[1]}")
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            yield proxy
        finally:
            proxy.shutdown()
            proxy.server_close()
            thread.join()
            server.stop()
