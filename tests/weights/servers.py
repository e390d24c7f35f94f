"""Real servers on the loopback interface: files with programmable faults, and Google Drive behind a proxy."""

import hashlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import trustme

MIB = 1 << 20


@dataclass
class Page:
    """An answer: a file that ranges can be asked of, or anything else."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # close the connection after so many bytes of the body
    with_length: bool = True


class Server(ThreadingHTTPServer):
    """Serves ``pages`` by path; a page in ``faults`` is served once, before, to whatever is asked for."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Page]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages
        self.faults: list[Page] = []
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.sent = 0  # bytes of bodies
        self.knows_ranges = True
        self.knows_if_range = True
        self.stamps_parts = True  # ETag and Last-Modified on a 206, too
        self.whole_parts = True  # a 206 goes to the end of the file
        self.bytes_per_second: float | None = None
        self.gate: threading.Event | None = None  # nothing is sent beyond the first piece until it is set
        self.answer: Callable[[str, str], Page | None] = lambda host, path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that are killed close their connection: wanted


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # what is sent is what has arrived
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.command, self.path, wanted))
        page = self.server.answer(self.headers.get("Host", ""), self.path)
        page = page or self.server.pages.get(urlsplit(self.path).path) or Page(b"not found", 404)
        if self.server.faults and self.command == "GET":
            page = self.server.faults.pop(0)
        start, end, status, headers = 0, None, page.status, dict(page.headers)
        unchanged = self.headers.get("If-Range") in (None, headers.get("ETag"), headers.get("Last-Modified"))
        unchanged = unchanged or not self.server.knows_if_range
        if wanted and status == 200 and self.server.knows_ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start < len(page.body):
                status = 206
                if not self.server.stamps_parts:
                    headers = {}
                end = len(page.body) if self.server.whole_parts else min(start + 1000, len(page.body))
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(page.body)}"
            else:
                start, status, page = 0, 416, Page()
                headers["Content-Range"] = f"bytes */{len(self.server.pages[self.path].body)}"
        body = page.body[start:end]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if page.with_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            self._send(body if page.cut is None else body[: page.cut])
        if page.cut is not None or not page.with_length:
            self.close_connection = True

    def _send(self, body: bytes) -> None:
        piece = 1 << 16
        for begin in range(0, len(body), piece):
            self.wfile.write(body[begin : begin + piece])
            self.server.sent += len(body[begin : begin + piece])
            if self.server.gate is not None:
                self.server.gate.wait(60)
            if self.server.bytes_per_second is not None:
                time.sleep(piece / self.server.bytes_per_second)


@contextmanager
def serving(pages: dict[str, Page] | None = None) -> Iterator[Server]:
    """A running server."""
    with Server(pages or {}) as server, _running(server):
        yield server


@contextmanager
def _running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def file_page(body: bytes) -> Page:
    """A file as a well-behaved server sends it."""
    return Page(body, headers={"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Content-Type": "application/zip"})


def hub_page(body: bytes) -> Page:
    """A file as the Hugging Face hub sends it; a revision is another commit when its content is another."""
    page = file_page(body)
    page.headers["X-Repo-Commit"] = hashlib.sha1(body).hexdigest()
    return page


def hub_error(status: int, code: str) -> Page:
    """An error as the hub sends it."""
    return Page(b"", status, {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": "0" * 40})


class _Proxy(ThreadingHTTPServer):
    """Leads every CONNECT to one server, whatever host is asked for."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connect)
        self.target = target


class _Connect(BaseHTTPRequestHandler):
    server: _Proxy

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.close_connection = True
        with socket.create_connection(self.server.target) as upstream, suppress(ConnectionError):
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)


@contextmanager
def google_drive(folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that passes for Google's, and the environment variables that lead a client to it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("drive.google.com", "drive.usercontent.google.com", "docs.google.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Server({}) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        with _running(server), _Proxy(("127.0.0.1", server.server_port)) as proxy, _running(proxy):
            yield (
                server,
                {
                    "HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_port}",
                    "https_proxy": f"http://127.0.0.1:{proxy.server_port}",
                    "NO_PROXY": "",
                    "no_proxy": "",
                    "REQUESTS_CA_BUNDLE": str(bundle),
                    "HOME": str(folder),  # gdown keeps cookies there
                },
            )
