"""Annotations, media and stores of others: what is wrong with them is told, and nothing outside is read."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import media
import pytest
from hostile import FUZZED, JSON, MIB, NAMES, damaged, memory_below, npy_bytes, places, vary, with_junk
from hypothesis import strategies as st

from avbench.data import video
from avbench.data.clips import MediaIndex
from avbench.data.store import open_store, read_info
from avbench.data.video import Clip, ClipFormat, read_clips
from avbench.data.windows import BrokenVideo, Loss, windows_of
from avbench.errors import RequestError, StoreError
from avbench.formats.writing import class_folder
from avbench_datasets._video import read_split_file
from avbench_datasets.ave import read_rows
from avbench_datasets.music21 import read_videos
from avbench_datasets.vggsound import read_csv

SMALL = ClipFormat(24, 32, 11_000, "centre")
ANNOTATIONS: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "AVE": (lambda path: read_rows(path, "train"), b"Category&VideoID&Quality&StartTime&EndTime\nBark&x&good&1&3\n"),
    "VGGSound": (read_csv, b'x,7,"child speech, kid speaking",train\ny,30,zebra braying,test\n'),
    "MUSIC-21": (read_videos, b'{"videos": {"erhu": ["x", "y"], "xylophone": ["z"]}}'),
    "split file": (read_split_file, b"vid,num,label,split\nx,3,erhu,train\ny,4,erhu,test\n"),
}


# --- annotations --------------------------------------------------------------------------------------------------


@FUZZED
@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_any_annotation_is_read_or_refused_in_a_line(kind: str, depth: int, tmp_path: Path) -> None:
    read, good = ANNOTATIONS[kind]
    path = tmp_path / "list"
    path.write_bytes(good)
    assert read(path)

    def body(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except RequestError as error:
            assert "list" in str(error)

    near = st.lists(
        st.sampled_from([b"x", b",", b"&", b"1", b"nan", b"\n", b'"', b"train", b"\0", b"\xff", b"{", b"["])
    )
    vary(depth, 60, damaged(good) | near.map(b"".join) | JSON.map(lambda each: json.dumps(each).encode()), body)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        *(("AVE", f"Bark&x&good&0&{end}\n".encode()) for end in ("nan", "inf", "1e300", "-1", "9" * 5000)),
        ("AVE", b"Bark&x&good&-inf&3\n"),
        *(
            ("VGGSound", f"y,1,erhu,train\nx,{start},erhu,train\n".encode())
            for start in ("²", "1e300", "9" * 5000, "-5", "1.5", "x\nx")
        ),
        ("VGGSound", b"x,1," + b"y" * 200_000 + b",train\n"),
        ("VGGSound", b"only one column\nx\n"),
        ("MUSIC-21", b"[" * 100_000),
        ("MUSIC-21", b'{"videos": {"erhu": 3}}'),
        *(("split file", f"vid,num,label,split\nx,{start},erhu,train\n".encode()) for start in ("inf", "nan", "1e300")),
        ("split file", b"vid,label,split\nx\n"),
        *((kind, b"\xff\xfe\x00") for kind in ANNOTATIONS),
    ],
)
def test_annotations_that_would_hang_or_crash_are_refused(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with memory_below(16 * MIB), pytest.raises(RequestError):
        ANNOTATIONS[kind][0](path)


@pytest.mark.parametrize("name", NAMES)
def test_an_id_that_is_a_path_finds_no_file_outside_the_source(name: str, tmp_path: Path) -> None:
    source = tmp_path / "a" / "source"
    source.mkdir(parents=True)
    (source / "x.mp4").write_bytes(b"")
    (tmp_path / "secret.mp4").write_bytes(b"")
    index = MediaIndex(source)
    for asked in (name, "../../secret", str(tmp_path / "secret"), "secret.mp4"):
        assert index.find([asked], [asked]) is None


# --- media --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["mp4", "mkv", "avi"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codecs = {"video": "mpeg4", "audio": "pcm"} if request.param == "avi" else {}
    kind = media.Media(width=64, height=48, fps=10, video_s=1.5, rate_hz=8_000, channels=1, **codecs)
    return media.make(tmp_path_factory.mktemp("film") / f"film.{request.param}", kind)


def decoded(path: Path) -> list[Any]:
    return list(read_clips(path, lambda file_s: windows_of("every", 0.0, None, 1.0, file_s), SMALL))


@FUZZED
def test_damaged_media_give_samples_or_a_reason(depth: int, film: Path, tmp_path: Path) -> None:
    whole, path = film.read_bytes(), tmp_path / film.name
    assert any(isinstance(each, Clip) for each in decoded(film))
    head, tail = min(900, len(whole) // 2), min(900, len(whole) // 2)
    ends = damaged(whole[:head] + whole[-tail:]).map(lambda b: b[:head] + whole[head:-tail] + b[head:])

    def body(content: bytes) -> None:
        path.write_bytes(content)
        try:
            for each in decoded(path):
                assert not isinstance(each, Clip) or (each.frame.shape, each.waveform.shape) == ((3, 24, 32), (11_000,))
        except BrokenVideo as error:
            assert isinstance(error.reason, Loss)

    vary(depth, 15, ends, body)


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{film}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:02,000\nx\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_file_that_only_names_others_opens_none(kind: str, film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / film.name)
    path = tmp_path / "clip.mp4"
    path.write_text(PLAYLISTS[kind].format(film=film, name=film.name), encoding="utf-8")
    with pytest.raises(BrokenVideo) as error:
        decoded(path)
    assert error.value.reason is Loss.NOT_MEDIA


@pytest.mark.parametrize("name", ["concat:x.mp4", "http:x.mp4", "pipe:0.mp4", "data:x.mp4"])
def test_a_name_is_never_taken_for_an_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = media.Media(width=64, height=48, fps=10, video_s=1.0, rate_hz=8_000)
    media.make(tmp_path / "film.mp4", kind).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(decoded(Path(name))) == 1


@pytest.mark.parametrize("length_s", [1e12, float("inf"), float("nan"), 86_402.0])
def test_a_header_that_promises_centuries_makes_no_list_of_windows(length_s: float) -> None:
    with memory_below(MIB), pytest.raises(BrokenVideo, match="more than a day"):
        windows_of("every", 0.0, None, 1.0, length_s)


def test_a_frame_beyond_the_bound_is_not_decoded(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(video._DECODED, "max_pixels", "1000")  # it has 64 x 48
    with contextlib.suppress(BrokenVideo):
        assert not any(isinstance(each, Clip) for each in decoded(film))


def test_a_device_and_a_link_to_one_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").symlink_to("/dev/zero")
    for path in (tmp_path / "clip.mp4", Path("/dev/zero")):
        with pytest.raises(BrokenVideo, match="there is no file"):
            decoded(path)


# --- stores -------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(small: Any, tmp_path: Path) -> Path:
    shutil.copytree(small.data / "small1", tmp_path / "data" / "small1")
    return tmp_path / "data"


@FUZZED
def test_any_description_of_a_store_is_taken_or_refused(depth: int, data: Path) -> None:
    path = data / "small1" / "store.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    ways = st.sampled_from(places(about))

    def body(found: tuple[tuple[Any, ...], Any]) -> None:
        path.write_text(json.dumps(with_junk(about, *found)), encoding="utf-8")
        try:
            open_store(data, "small1")
        except StoreError as error:
            assert "small1" in str(error)

    vary(depth, 150, st.tuples(ways, JSON | st.sampled_from([1 << 62, -1, 1e308])), body)


@pytest.mark.parametrize(
    "content",
    [
        npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (36, 1, 16, 24), }", bytes(64)),
        npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
        npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-36, 1, 16, 24), }"),
        npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (36, 1, 16, 24), }"),
        npy_bytes("(" * 9000),
        npy_bytes("__import__('os').getcwd()"),
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"",
    ],
)
def test_hostile_headers_of_arrays_are_refused(content: bytes, data: Path) -> None:
    (data / "small1" / "train" / "audio.npy").write_bytes(content)
    with memory_below(16 * MIB), pytest.raises(StoreError):
        open_store(data, "small1")


@FUZZED
def test_damaged_headers_of_arrays_are_refused(depth: int, data: Path) -> None:
    path = data / "small1" / "train" / "frames.npy"
    whole = path.read_bytes()

    def body(head: bytes) -> None:
        path.write_bytes(head + whole[len(head) :])
        try:
            assert open_store(data, "small1").frames["train"].shape == (36, 1, 16, 16)
        except StoreError as error:
            assert "frames.npy" in str(error)

    vary(depth, 80, damaged(whole[:128]), body)


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name] + ["../data/small1", "small1/../small1"])
def test_a_store_is_only_ever_a_folder_of_the_data_folder(name: str, data: Path) -> None:
    """Sets of others name the store that they refer to."""
    outside = data.parent / "x"
    shutil.copytree(data / "small1", outside)
    about = json.loads((outside / "store.json").read_text(encoding="utf-8"))
    (outside / "store.json").write_text(json.dumps({**about, "name": name}), encoding="utf-8")
    for read in (read_info, open_store):
        with pytest.raises((StoreError, OSError)):
            read(data, name)
        with pytest.raises(StoreError):
            read(data / "small1", "../../x")


@FUZZED
def test_a_class_s_folder_has_a_harmless_name(depth: int) -> None:
    def body(name: str) -> None:
        folder = class_folder(3, name, 10)
        assert re.fullmatch(r"003(_[^\W_]+)*", folder) and len(folder) <= 64

    vary(depth, 150, st.text() | st.sampled_from(NAMES), body)
