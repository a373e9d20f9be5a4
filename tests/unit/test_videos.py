"""model/formats/videos.py and what it writes, read back by PyAV, Pillow and by hand."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lrm_cli.batch.leftovers import remove_parts
from model.formats.bleeding import bleed_colors
from model.formats.frame_rate import exact_fps, shown_for
from model.formats.videos import VideoFormat, has_alpha, open_video, video_suffix
from tests.unit.video_readers import read_video

FORMATS = get_args(VideoFormat)
FILES = [form for form in FORMATS if form != "png"]
PATCHES = [(200, 30, 40), (0, 200, 0), (20, 40, 220), (128, 128, 128), (255, 255, 255), (0, 0, 0)]


def video_path(stem: Path, form: VideoFormat) -> Path:
    return stem.with_name(stem.name + video_suffix(form))


def patches(frame: int, size: tuple[int, int], alpha: bool = False) -> NDArray[np.uint8]:
    """Six flat colours side by side, one place further in each frame.

    With alpha, the last place is empty.
    """
    width, height = size
    colors = np.array(PATCHES)[(np.arange(width) * 6 // width + frame) % 6]
    opacity = np.where(np.arange(width) * 6 // width == 5, 0, 255)[:, None]
    row = np.concatenate([colors * (opacity > 0), opacity], axis=1) if alpha else colors
    return np.tile(row.astype(np.uint8), (height, 1, 1))


def write(
    path: Path,
    form: VideoFormat,
    count: int = 7,
    size: tuple[int, int] = (192, 64),
    fps: float = 24,
    alpha: bool = False,
) -> Path:
    place = video_path(path, form)
    with open_video(place, form, size, fps, alpha=alpha) as video:
        for frame in range(count):
            video.add(patches(frame, size, alpha))
    return place


def centres(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(6, C) the middle of each patch."""
    width = frame.shape[1]
    return frame[frame.shape[0] // 2, width // 12 :: width // 6][:6].astype(int)


@pytest.mark.parametrize("form", FORMATS)
def test_frames_come_back_with_their_colours_in_their_order(
    tmp_path: Path, form: VideoFormat
) -> None:
    video = read_video(write(tmp_path / "cup", form), form)
    assert video.frames.shape == (7, 64, 192, 4)
    for number, frame in enumerate(video.frames):
        expected = centres(patches(number, (192, 64)))
        assert np.abs(centres(frame)[:, :3] - expected).max() <= 3
        assert (frame[..., 3] == 255).all()


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_colours_are_those_of_bt709(tmp_path: Path, form: VideoFormat) -> None:
    """BT.601 would miss by up to 30, full range by 16, sloppy rounding by 1 overall."""
    colors = np.array(list(itertools.product((0, 60, 128, 200, 255), repeat=3))).reshape(5, 25, 3)
    with open_video(tmp_path / "a", form, (800, 160), 24) as video:
        for _ in range(5):
            video.add(colors.astype(np.uint8).repeat(32, axis=0).repeat(32, axis=1))
    error = read_video(tmp_path / "a", form).frames[4, 16::32, 16::32, :3] - colors
    assert np.abs(error).max() <= 3
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.3


@pytest.mark.parametrize("form", [form for form in FORMATS if has_alpha(form)])
def test_alpha_is_kept(tmp_path: Path, form: VideoFormat) -> None:
    video = read_video(write(tmp_path / "cup", form, alpha=True), form)
    for number, frame in enumerate(video.frames):
        expected = centres(patches(number, (192, 64), alpha=True))
        assert np.abs(centres(frame)[:5] - expected[:5]).max() <= 3
        assert centres(frame)[5, 3] <= 1


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(("count", "fps"), [(1, 24), (10, 24), (9, 7), (13, 29.97), (25, 50)])
def test_every_frame_is_shown_for_its_time_the_last_one_too(
    tmp_path: Path, form: VideoFormat, count: int, fps: float
) -> None:
    video = read_video(write(tmp_path / "cup", form, count, fps=fps), form)
    assert len(video.frames) == count
    # Half a tick of GIF; WebM and WebP have milliseconds.
    assert video.seconds == pytest.approx(count / fps, abs=0.0051 if form == "gif" else 0.0011)


def test_whole_ticks_do_not_drift() -> None:
    shown = [shown_for(frame, exact_fps(24), 100) for frame in range(240)]
    assert set(shown) == {4, 5}
    assert sum(shown) == 1000


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(2, 2), (63, 47), (64, 47), (47, 64)])
def test_odd_sizes(tmp_path: Path, form: VideoFormat, size: tuple[int, int]) -> None:
    gradient = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    place = video_path(tmp_path / "cup", form)
    with open_video(place, form, size, 24) as video:
        for _ in range(3):
            video.add(gradient.astype(np.uint8))
    frame = read_video(place, form).frames[1]
    even = tuple(side + side % 2 for side in size)
    assert frame.shape[1::-1] == (even if form == "mp4" else size)
    assert np.abs(frame[: size[1], : size[0], :3] - gradient).mean() < 6
    # The row and the column beyond the picture are its last ones again, not black.
    assert np.abs(frame[-1].astype(float) - frame[size[1] - 1]).max() < 12
    assert np.abs(frame[:, -1].astype(float) - frame[:, size[0] - 1]).max() < 12


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_streams_say_which_colours_they_have(tmp_path: Path, form: VideoFormat) -> None:
    with av.open(str(write(tmp_path / "cup", form))) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace)
        assert tags == (1, 1, 1), "BT.709"
        assert context.color_range == 1, "limited"
        assert context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
        assert context.name == {"mp4": "h264", "webm": "vp9"}[form]


def test_players_find_the_index_of_an_mp4_at_its_front(tmp_path: Path) -> None:
    data = write(tmp_path / "cup", "mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_the_same_frames_give_the_same_bytes(
    tmp_path: Path, form: VideoFormat, alpha: bool
) -> None:
    if alpha and not has_alpha(form):
        pytest.skip("never transparent")
    digests = []
    for name in ("a", "b"):
        place = write(tmp_path / name, form, 20, alpha=alpha)
        files = [place] if place.is_file() else sorted(place.iterdir())
        digests.append([hashlib.sha256(file.read_bytes()).digest() for file in files])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("form", FORMATS)
def test_an_exception_leaves_nothing_and_what_was_there_stays(
    tmp_path: Path, form: VideoFormat
) -> None:
    def broken(name: str) -> None:
        with open_video(video_path(tmp_path / name, form), form, (64, 64), 24) as video:
            video.add(patches(0, (64, 64)))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        broken("new")
    assert os.listdir(tmp_path) == []
    place = write(tmp_path / "old", form)
    before = read_video(place, form).frames
    with pytest.raises(RuntimeError, match="in between"):
        broken("old")
    assert os.listdir(tmp_path) == [place.name]
    assert np.array_equal(read_video(place, form).frames, before)


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_killed_writer_leaves_is_found_by_the_name_of_its_video(
    tmp_path: Path, form: VideoFormat
) -> None:
    place = video_path(tmp_path / "cup", form)
    process = os.fork()
    if process == 0:
        with open_video(place, form, (64, 64), 24) as video:
            video.add(patches(0, (64, 64)))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert len(os.listdir(tmp_path)) == 1
    assert not place.exists()
    remove_parts([place])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["mp4", "webm", "gif", "webp"])
def test_a_full_disk_is_an_os_error(tmp_path: Path, form: VideoFormat) -> None:
    process = os.fork()
    if process == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
        try:
            with open_video(tmp_path / "cup", form, (128, 128), 24) as video:
                for _ in range(20):
                    video.add(noise)
        except OSError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0
    assert os.listdir(tmp_path) == []


def test_stills_of_a_longer_video_go_and_other_files_stay(tmp_path: Path) -> None:
    write(tmp_path / "cup", "png", 5)
    folder = tmp_path / "cup.frames"
    (folder / "notes.txt").write_text("mine")
    write(tmp_path / "cup", "png", 3)
    assert sorted(os.listdir(folder)) == ["0000.png", "0001.png", "0002.png", "notes.txt"]
    assert os.listdir(tmp_path) == ["cup.frames"]


@pytest.mark.parametrize(
    ("form", "size", "fps", "alpha", "message"),
    [
        ("avi", (64, 64), 24, False, "format is 'avi'; it must be one of mp4, webm, gif, webp"),
        ("mp4", (1, 64), 24, False, "frames have 1 × 64 pixels; each side of a video must be from"),
        ("webp", (20000, 64), 24, False, "frames have 20000 × 64 pixels"),
        ("mp4", (64, 64), 0, False, "fps is 0; it must be from 1 to 120"),
        ("mp4", (64, 64), float("nan"), False, "fps is nan"),
        ("gif", (64, 64), 60, False, "fps is 60; programs show gif at no more than 50 frames"),
        ("mp4", (64, 64), 24, True, "mp4 cannot be transparent; take webm, webp, gif or png"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path,
    form: VideoFormat,
    size: tuple[int, int],
    fps: float,
    alpha: bool,
    message: str,
) -> None:
    with (
        pytest.raises(ValueError, match=message),
        open_video(tmp_path / "cup", form, size, fps, alpha=alpha),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_video_has_frames_and_they_are_alike(tmp_path: Path, form: VideoFormat) -> None:
    with pytest.raises(ValueError, match="no frames"), open_video(tmp_path / "a", form, (8, 8), 24):
        pass
    with open_video(tmp_path / "a", form, (8, 8), 24) as video:
        video.add(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ValueError, match=r"frame 1 is uint8 \(8, 9, 3\)"):
            video.add(np.zeros((8, 9, 3), np.uint8))


def test_a_gif_may_have_an_empty_frame(tmp_path: Path) -> None:
    with open_video(tmp_path / "a.gif", "gif", (8, 8), 24, alpha=True) as video:
        video.add(np.zeros((8, 8, 4), np.uint8))
        video.add(np.full((8, 8, 4), 255, np.uint8))
        video.add(np.zeros((8, 8, 4), np.uint8))
    alpha = read_video(tmp_path / "a.gif", "gif").frames[..., 3]
    assert [set(frame.ravel().tolist()) for frame in alpha] == [{0}, {255}, {0}]


@pytest.mark.parametrize("form", FILES)
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path, form: VideoFormat) -> None:
    """A frame is 0.2 MB: the last hundred would be seen."""
    script = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from model.formats.videos import open_video\n"
        "path, form, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "frame = np.random.default_rng(0).integers(0, 8, (256, 256, 3), dtype=np.uint8) * 32\n"
        "frame[64:] = 255\n"
        "peaks = []\n"
        "with open_video(path, form, (256, 256), 24) as video:\n"
        "    for k in range(count):\n"
        "        video.add(np.roll(frame, k, axis=1))\n"
        "        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "print((peaks[-1] - peaks[count // 3]) / 1000)\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "a"), form, "150"]
    grown_mb = float(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    assert grown_mb < 10


def test_colours_bleed_and_what_is_seen_stays() -> None:
    picture = np.zeros((37, 50, 4), np.uint8)
    picture[5:9, 5:9] = (200, 10, 10, 255)
    picture[30:35, 40:48] = (10, 10, 200, 128)
    filled = bleed_colors(picture)
    seen = picture[..., 3] > 0
    assert np.array_equal(filled[seen], picture[seen])
    assert np.array_equal(filled[..., 3], picture[..., 3])
    assert np.array_equal(filled[4, 4, :3], [200, 10, 10])
    assert np.array_equal(filled[36, 49, :3], [10, 10, 200])
    assert np.array_equal(bleed_colors(np.zeros((3, 3, 4), np.uint8)), np.zeros((3, 3, 4)))
