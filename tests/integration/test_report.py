"""`lrm reconstruct --report` as its users run it, and its pages in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.unit.tiny_model import save_box_model

TIMEOUT_S = 300  # for busy machines
WAIT_S = 100  # for a first frame
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ODD = "50% <b> #1 é"


def save_photo(path: Path, color: str) -> None:
    image = Image.new("RGBA", (160, 120))
    ImageDraw.Draw(image).ellipse((40, 20, 120, 100), fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the report of two textured boxes and of a photo that is none."""
    folder = tmp_path_factory.mktemp("report")
    save_box_model(folder / "model")
    save_photo(folder / "photos/cup.png", "teal")
    save_photo(folder / f"photos/more cups/{ODD}.png", "olive")
    (folder / "photos/text.png").write_text("not a picture")
    main = "import sys; from lrm_cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "reconstruct", str(folder / "photos"), "--report"]
    command += ["--out", str(folder / "meshes"), "--model", str(folder / "model")]
    command += ["--device", "cpu", "--resolution", "24", "--texture", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1, done.stderr
    assert "Warning" not in done.stderr
    return folder


def test_the_report_has_all_pictures(folder: Path) -> None:
    report = folder / "meshes/report"
    index = (report / "index.html").read_text("utf-8")
    assert "the file is not a picture of a known format" in index
    suffixes = [".html", ".mesh.js", ".photo.jpg", *(f".view-{n}.webp" for n in range(1, 9))]
    stems = ("cup", f"more cups/{ODD}")
    wanted = {f"items/{stem}{suffix}" for stem in stems for suffix in suffixes}
    wanted |= {"index.html", "index.js", "items.js", "manifest.json", "style.css", "viewer.js"}
    assert wanted == {p.relative_to(report).as_posix() for p in report.rglob("*") if p.is_file()}
    for view in report.rglob("*.webp"):
        pixels = np.asarray(Image.open(view).convert("RGBA"))
        assert 0.1 < (pixels[..., 3] > 0).mean() < 0.9


class Gate(ThreadingHTTPServer):
    """Answers what delays a page's load event, once its viewer has said that it has ended."""

    daemon_threads = True

    def __init__(self) -> None:
        self.opened = threading.Event()
        super().__init__(("127.0.0.1", 0), GateHandler)


class GateHandler(BaseHTTPRequestHandler):
    server: Gate

    def do_GET(self) -> None:
        if self.path == "/ended":
            self.server.opened.set()
        self.server.opened.wait(WAIT_S)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gate() -> Iterator[Gate]:
    server = Gate()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.opened.set()
    server.shutdown()
    server.server_close()


def browse(profile: Path, page: str, *arguments: str) -> str:
    """Open a page from the file system; returns what its DOM has become when it has loaded."""
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-unsafe-swiftshader", "--hide-scrollbars", "--window-size=1200,800"),
        f"--user-data-dir={profile}",
    )
    command = [CHROMIUM, *flags, *arguments, page]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S).stdout


def held(page: Path, gate: Gate) -> str:
    """The address of a copy beside a page that has not loaded before its viewer has an outcome."""
    server = f"http://127.0.0.1:{gate.server_port}"
    hold = f"""<img src="{server}/hold" alt="" hidden><script>
    const viewer = document.getElementById("viewer");
    const asking = setInterval(() => {{
      if (!viewer.dataset.state) return;
      clearInterval(asking);
      new Image().src = "{server}/ended";
    }}, 20);</script></body>"""
    copy = page.with_name(f"held {page.name}")
    copy.write_text(page.read_text("utf-8").replace("</body>", hold), "utf-8")
    return f"file://{quote(str(copy))}"


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("stem", ["cup", f"more cups/{ODD}"])
def test_a_browser_draws_the_mesh(folder: Path, tmp_path: Path, gate: Gate, stem: str) -> None:
    """The box is red (sRGB 0.88, 0.27, 0.05), whatever the photo is."""
    report = tmp_path / "report"
    shutil.copytree(folder / "meshes/report", report)
    page = held(report / f"items/{stem}.html", gate)
    assert 'data-state="drawn"' in browse(tmp_path / "profile", page, "--dump-dom")
    gate.opened.clear()
    picture = tmp_path / "page.png"
    browse(tmp_path / "profile", page, f"--screenshot={picture}")
    right = np.asarray(Image.open(picture).convert("RGB")).astype(int)[:600, 600:]
    red = (right[..., 0] > 150) & (right[..., 1] < 120) & (right[..., 2] < 60)
    assert red.mean() > 0.1


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_without_webgl_says_so(folder: Path, tmp_path: Path, gate: Gate) -> None:
    report = tmp_path / "report"
    shutil.copytree(folder / "meshes/report", report)
    page = held(report / "items/cup.html", gate)
    dom = browse(tmp_path / "profile", page, "--dump-dom", "--disable-3d-apis")
    assert 'data-state="no-webgl"' in dom


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_filters_the_index(folder: Path, tmp_path: Path) -> None:
    report = folder / "meshes/report"
    typed = "<script>text.value = 'CUP.'; form.dispatchEvent(new Event('input'))</script></body>"
    index = (report / "index.html").read_text("utf-8").replace("</body>", typed)
    (tmp_path / "report").symlink_to(report)
    index = index.replace('src="', 'src="report/').replace('href="', 'href="report/')
    (tmp_path / "typed.html").write_text(index, "utf-8")
    dom = browse(tmp_path / "profile", f"file://{quote(str(tmp_path))}/typed.html", "--dump-dom")
    assert ">1 of 2</output>" in dom
    cards = re.findall(r'<li class="card" data-name="([^"]*)"[^>]*?( hidden="")?>', dom)
    assert [hidden for _, hidden in cards] == ["", ' hidden=""']
