"""Preparing videos on one core: avbench against the usual way, on the same generated files.

Command: ``python benchmarks/speed/preparing.py [--videos N]``. It needs the program ffmpeg and about 100 MB.

The usual way is what preprocessing scripts do: for each sample one ffmpeg process that extracts its frame at 224 x 224
and one that extracts its sound at 11 kHz as a WAV file, then torchaudio's log-mel of that file. Both ways decode ten
seconds (AVE: every second a sample) or one of ten (VGGSound) of each video, on one core and with one thread. Of
avbench the decoding worker is timed, without and with starting it; of the usual way torch's import is not counted.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avbench.data.audio import LogMel
from avbench.data.pool import decode_all
from avbench.data.shards import Recipe, Stretch, decode_task, task_for
from avbench.data.video import ClipFormat

SIZES = {"720p": (1280, 720, "2500k"), "360p": (640, 360, "700k")}
SIDE, RATE_HZ, SECONDS = 224, 11_000, 10
RECIPE = Recipe(1.0, ClipFormat(SIDE, SIDE, RATE_HZ, "centre"), LogMel())


def write_video(path: Path, width: int, height: int, bit_rate: str, seed: int) -> None:
    """Ten seconds, H.264 with B-frames and a keyframe every five seconds as YouTube has it, and AAC."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height // 8 + 40, width // 8 + 80, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "medium", "maxrate": bit_rate})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.bit_rate, video.codec_context.gop_size = int(bit_rate[:-1]) * 1000, 125
        audio = container.add_stream("aac", rate=44_100, layout="stereo")
        for i in range(25 * SECONDS):
            x, y = 2 * i, i
            picture = np.ascontiguousarray(texture[y : y + height, x : x + width])
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        sound = (0.2 * rng.standard_normal((2, 44_100 * SECONDS))).astype(np.float32)
        for start in range(0, sound.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, start : start + 1024]), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def usual_way(path: Path, starts_s: list[float], folder: Path) -> None:
    """One ffmpeg process for the frame and one for the sound of each sample, then torchaudio."""
    import torch
    import torchaudio

    mel = torchaudio.transforms.MelSpectrogram(RATE_HZ, n_fft=400, hop_length=200, n_mels=128)
    to_db = torchaudio.transforms.AmplitudeToDB(stype="power", top_db=None)
    for start_s in starts_s:
        image, sound = folder / "frame.png", folder / "sound.wav"
        begin = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-ss", f"{start_s + 0.5}", "-i", str(path)]
        scale = ["-frames:v", "1", "-threads", "1", "-vf", f"scale={SIDE}:{SIDE}", str(image)]
        subprocess.run([*begin, *scale], check=True)
        begin = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-ss", f"{start_s}", "-i", str(path), "-t", "1"]
        subprocess.run([*begin, "-vn", "-ac", "1", "-ar", str(RATE_HZ), str(sound)], check=True)
        with wave.open(str(sound)) as file:
            samples = np.frombuffer(file.readframes(RATE_HZ), np.int16).astype(np.float32) / 32768
        to_db(mel(torch.from_numpy(samples)[None]))


def cpu_seconds(act: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of this process and its children, seconds on the clock) of a call."""

    def used() -> float:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    before, began = used(), time.perf_counter()
    act()
    return used() - before, time.perf_counter() - began


def compare(name: str, paths: list[Path], starts_s: list[float], folder: Path) -> None:
    """Print samples a second of one core, for both ways."""
    stretch = Stretch("every", starts_s[0], starts_s[-1] + 1.0)
    usual_way(paths[0], starts_s[:1], folder)  # torch is imported here, and not timed
    filters = RECIPE.log_mel.filters()
    tasks = [task_for(path, [stretch], RECIPE) for path in paths]
    samples = len(paths) * len(starts_s)
    kept = [len(decode_task(task, RECIPE, filters, folder / "warm").kept[0]) for task in tasks]
    if sum(kept) != samples:
        raise SystemExit(f"{name}: {sum(kept)} of {samples} samples came out.")
    ours, ours_wall = cpu_seconds(lambda: [decode_task(task, RECIPE, filters, folder / "a") for task in tasks])
    pooled, _ = cpu_seconds(lambda: list(decode_all(tasks, RECIPE, filters, folder / "b", 1)))
    usual, usual_wall = cpu_seconds(lambda: [usual_way(path, starts_s, folder) for path in paths])
    print(
        f"{name}: avbench {samples / ours:.1f} clips a second of a core ({samples / pooled:.1f} with starting the "
        f"worker), usual way {samples / usual:.2f}: {usual / ours:.1f} times, on the clock {usual_wall / ours_wall:.1f}"
    )


def main() -> None:
    """Print a line for each size and dataset."""
    warnings.filterwarnings("ignore", message="At least one mel filterbank")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6, help="videos a size")
    count = parser.parse_args().videos
    if shutil.which("ffmpeg") is None:
        sys.exit("the usual way needs the program ffmpeg: install it (Debian: apt install ffmpeg).")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size, (width, height, bit_rate) in SIZES.items():
            paths = [folder / f"{size}-{i}.mp4" for i in range(count)]
            for seed, path in enumerate(paths):
                write_video(path, width, height, bit_rate, seed)
            kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e3
            print(f"{size}: {count} videos of {SECONDS} s, {kilobytes:.0f} kB each")
            compare(f"  AVE, ten seconds of {size}", paths, [float(s) for s in range(SECONDS)], folder)
            compare(f"  VGGSound, one second of {size}", paths, [4.0], folder)


if __name__ == "__main__":
    main()
