"""A page of this folder in a headless browser: it gets a job and answers with JSON."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TIMEOUT_S = 300
TYPES = {".html": "text/html", ".js": "text/javascript", ".json": "application/json"}
FLAGS = (
    *("--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1200,1200"),
)


class Desk(ThreadingHTTPServer):
    """Serves pages, packages and meshes; keeps the answer."""

    daemon_threads = True

    def __init__(self, modules: Path, job: dict[str, Any], files: list[Path]) -> None:
        self.modules, self.files = modules.resolve(), files
        addresses = [f"/files/{number}.glb" for number in range(len(files))]
        self.job = json.dumps(job | {"files": addresses}).encode()
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), DeskHandler)


class DeskHandler(BaseHTTPRequestHandler):
    server: Desk

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        content: bytes | None
        if path == "/job.json":
            content = self.server.job
        elif path.startswith("/files/"):
            content = self.server.files[int(Path(path).stem)].read_bytes()
        elif path.startswith("/modules/"):
            content = read_below(self.server.modules, path.removeprefix("/modules/"))
        else:
            content = read_below(HERE, path[1:])
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", TYPES.get(Path(path).suffix, "application/octet-stream"))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self) -> None:
        self.server.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def read_below(folder: Path, name: str) -> bytes | None:
    path = (folder / name).resolve()
    return path.read_bytes() if path.is_relative_to(folder) and path.is_file() else None


def ask_page(page: str, modules: Path, job: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """What a page answers.

    Raises:
        RuntimeError: there is no browser, or the page says an error or nothing.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise RuntimeError(f"none of {', '.join(names)} is installed")
    desk = Desk(modules, job, files)
    threading.Thread(target=desk.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        address = f"http://127.0.0.1:{desk.server_port}/{page}"
        # Headless Chromium ends by itself once a page has loaded, unless a debugger could come.
        command = [browser, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            answer = desk.answers.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise RuntimeError(f"{page} has not answered in {TIMEOUT_S} s") from None
        finally:
            process.terminate()
            process.wait()
            desk.shutdown()
            desk.server_close()
    if "error" in answer:
        raise RuntimeError(f"{page}: {answer['error']}")
    return answer
