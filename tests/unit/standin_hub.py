"""A Hugging Face hub on this machine: what its client asks of one when it downloads a file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandinHub:
    """Files under `owner/name/file`, and what was asked for.

    Attributes:
        cut_off_after: bytes after which the connection breaks, once.
    """

    files: dict[str, bytes]
    address: str = ""
    requests: list[str] = field(default_factory=list)
    cut_off_after: int | None = None

    @contextmanager
    def serving(self) -> Iterator[StandinHub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(with_content=False)

            def do_GET(self) -> None:
                self.answer(with_content=True)

            def answer(self, *, with_content: bool) -> None:
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                name = f"{repository}/{rest.partition('/')[2]}"
                start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
                hub.requests.append(f"{self.command} {name} {start}")
                content = hub.files.get(name)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    places = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.send_header("Content-Range", places)
                self.end_headers()
                if not with_content:
                    return
                if hub.cut_off_after is not None and len(content) > hub.cut_off_after:
                    self.wfile.write(content[start : hub.cut_off_after])
                    hub.cut_off_after = None
                    self.close_connection = True
                    return
                self.wfile.write(content[start:])

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
