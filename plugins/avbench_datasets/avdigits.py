"""Handwritten digits paired by class with synthetic spoken digits: no download, for first runs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

from avbench.api import (
    SPLITS,
    Dataset,
    LogMel,
    PrepareContext,
    RequestError,
    Store,
    StoreInfo,
    StoreWriter,
    Streams,
    one_thread,
    resample,
)

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: Images per class of the first two splits; the test split gets what is left, 44 to 53.
_TRAIN_PER_CLASS, _VAL_PER_CLASS = 110, 20

#: The voices of each split: espeak-ng's accents with the variants that speak them. No variant, hence no
#: voice, is in two splits; four of the six test accents are not in training. Variants whose breath is noise
#: (f2, f3, f5, whisper, …) are left out: it comes from the C library, which differs between systems.
_VOICES: dict[str, dict[str, str]] = {
    "train": {
        "en-us": "m1 f1 m3 Annie Alex steph",
        "en": "m1 f1 grandma david m5 linda",
        "en-gb-scotland": "m3 grandma m5 edward steph",
        "en-gb-x-gbclan": "m1 f1 Alex Annie linda",
    },
    "val": {
        "en-us": "m4",
        "en": "m4",
        "en-gb-scotland": "Andrea",
        "en-gb-x-rp": "Andrea",
        "en-us-nyc": "Andrea",
    },
    "test": {
        "en-us": "m2 aunty Mike",
        "en": "f4 m7 adam",
        "en-us-nyc": "aunty m2 belinda",
        "en-029": "f4 m7 Mike",
        "en-gb-x-rp": "m2 belinda aunty",
        "en-gb-x-gbcwmd": "m7 adam f4",
    },
}

_SEED = 0
_RATES_WPM, _PITCHES = (130, 210), (30, 70)  # at these rates the longest word takes 0.8 s
_QUIETEST_DB = -12.0  # gain drawn from here to 0 dB
_NOISE_RMS = 1e-3  # -60 dB of full scale: digital silence would be one constant in every clip
_POSITION_SHARE = 0.5  # the word begins in the middle half of the room that it leaves
_AUDIBLE_SHARE = 0.02  # of the peak: what is softer at either end is trimmed
_MEL = LogMel(mels=32)
_SIDE = 32  # pixels

_CITATION = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
    "1998, doi:10.24432/C50P49 (the part that scikit-learn ships). "
    "Speech: espeak-ng, github.com/espeak-ng/espeak-ng."
)
_NOTES = (
    "The speech is SYNTHETIC: spoken by espeak-ng, with a faint white noise added. No person was recorded.",
    "A first-run dataset: to see a benchmark work in minutes. Not a headline board.",
    "Sound and picture are paired by class alone. Images and voices are disjoint between the splits.",
)


@dataclass(frozen=True)
class _Sample:
    """One sample to be: where it goes, the image it shows and the utterance it holds."""

    split: str
    row: int
    image: int
    word: str
    voice: str
    rate_wpm: int
    pitch: int

    @property
    def video(self) -> str:
        return f"digits-{self.image:04d}+{self.voice}"


class AVDigits(Dataset):
    """Handwritten digits with synthetic spoken digits (espeak-ng); needs no download. For first runs."""

    version: ClassVar[int] = 1
    embedded: ClassVar[bool] = True

    def prepare(self, context: PrepareContext) -> Store:
        """Build the store; about ten seconds. The same packages give the same bytes.

        Raises:
            RequestError: the extra ``speech`` is absent, or espeak-ng fails.
        """
        digits = load_digits()
        samples, counts = _plan(digits.target)
        with one_thread():
            waves, speech_sources = _speak(samples)
            # 13 MB: small enough to be held, which the normalisation wants.
            audio = _log_mels(waves, context.progress)
        frames = _enlarge(digits.images)
        training = [s for s in samples if s.split == "train"]
        info = _normalised(
            _info(context.name, counts, speech_sources),
            audio[: len(training)],
            frames[[s.image for s in training]],
        )
        writer = StoreWriter(context.data, info)
        try:
            for sample, mel in zip(samples, audio, strict=True):
                writer.put(sample.split, sample.row, mel, frames[sample.image], sample.video, "0")
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


def _plan(labels: npt.NDArray[np.int64]) -> tuple[list[_Sample], dict[str, tuple[int, ...]]]:
    """Every sample, training split first, each split sorted by class; and the counts by split and class.

    Images are dealt in the order of the file, where neighbours were often written by one hand, so that few
    writers are in two splits.
    """
    counts: dict[str, tuple[int, ...]] = {}
    samples: list[_Sample] = []
    cuts = {
        "train": slice(0, _TRAIN_PER_CLASS),
        "val": slice(_TRAIN_PER_CLASS, _TRAIN_PER_CLASS + _VAL_PER_CLASS),
        "test": slice(_TRAIN_PER_CLASS + _VAL_PER_CLASS, None),
    }
    for split in SPLITS:
        voices = [f"{accent}+{v}" for accent, variants in _VOICES[split].items() for v in variants.split()]
        images = [np.flatnonzero(labels == cls)[cuts[split]] for cls in range(len(_WORDS))]
        counts[split] = tuple(len(of_class) for of_class in images)
        row = 0
        for cls, word in enumerate(_WORDS):
            draw = Streams(_SEED)(f"avdigits speech {split}", cls=cls)
            for k, image in enumerate(images[cls]):
                rate_wpm = int(draw.integers(_RATES_WPM[0], _RATES_WPM[1], endpoint=True))
                pitch = int(draw.integers(_PITCHES[0], _PITCHES[1], endpoint=True))
                voice = voices[k % len(voices)]
                samples.append(_Sample(split, row, int(image), word, voice, rate_wpm, pitch))
                row += 1
    return samples, counts


def _speak(samples: list[_Sample]) -> tuple[list[torch.Tensor], dict[str, str]]:
    """The utterance of each sample, (1, n) float64 in [-1, 1] at the rate of the log-mel; and versions.

    Raises:
        RequestError: espeak-ng is absent or fails.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise RequestError(
            "avdigits speaks its digits with espeak-ng, which is not installed: "
            'pip install "avbench[speech]" and try again.'
        ) from None
    request = {
        "library": espeakng_loader.get_library_path(),
        "data": espeakng_loader.get_data_path(),
        "utterances": [[s.word, s.voice, s.rate_wpm, s.pitch] for s in samples],
    }
    told, spoken = _run_speaker(request)
    waves = []
    ends = np.cumsum(told["lengths"])
    for sample, wave in zip(samples, np.split(spoken, ends[:-1]), strict=True):
        waves.append(_trim(wave, told["sample_rate_hz"], sample))
    loader = importlib.metadata.version("espeakng-loader")
    return waves, {"espeakng-loader": loader, "espeak-ng": told["version"]}


def _run_speaker(request: dict[str, Any]) -> tuple[dict[str, Any], npt.NDArray[np.int16]]:
    """Run ``_speech.py`` in a fresh process: what it tells, and all samples end to end."""
    with tempfile.TemporaryDirectory() as temporary:
        asked, answer, samples = (Path(temporary) / name for name in ("asked.json", "answer.json", "samples"))
        asked.write_text(json.dumps(request), encoding="utf-8")
        # -P: the folder of the program must not shadow the standard library.
        program = [sys.executable, "-P", str(Path(__file__).with_name("_speech.py"))]
        done = subprocess.run(
            [*program, str(asked), str(answer), str(samples)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise RequestError(
                f"espeak-ng could not speak the digits ({reason}); reinstall it: "
                'pip install --force-reinstall "avbench[speech]".'
            )
        return json.loads(answer.read_text(encoding="utf-8")), np.fromfile(samples, np.int16)


def _trim(wave: npt.NDArray[np.int16], sample_rate_hz: int, sample: _Sample) -> torch.Tensor:
    """``wave`` without the silence around it, (1, n) float64 at the log-mel's rate.

    Raises:
        RequestError: it is silent, or too long for the clip; so espeak-ng is not the one this was made with.
    """
    level = np.abs(wave.astype(np.int32))
    heard = np.flatnonzero(level > _AUDIBLE_SHARE * level.max(initial=0))
    if heard.size:
        word = torch.from_numpy(wave[heard[0] : heard[-1] + 1] / 32768.0)[None]
        resampled = resample(word, sample_rate_hz, _MEL.sample_rate_hz)
        if resampled.shape[1] <= _MEL.samples:
            return resampled
    problem = "longer than a second" if heard.size else "silent"
    raise RequestError(
        f"espeak-ng's {sample.word!r} as {sample.voice!r} is {problem}; install espeakng-loader 0.2.4, "
        "with which avdigits was made, and prepare it again."
    )


def _log_mels(waves: list[torch.Tensor], progress: Callable[[int, int, str], None]) -> npt.NDArray[np.float32]:
    """Each utterance somewhere in a second, over faint noise: log-mel (N, 1, mels, frames) in dB."""
    draw = Streams(_SEED)("avdigits placement")
    result = np.empty((len(waves), *_MEL.shape), np.float32)
    for i, wave in enumerate(waves):
        room = _MEL.samples - wave.shape[1]
        start = int(room * (0.5 + _POSITION_SHARE * (draw.random() - 0.5)))
        gain = 10.0 ** (draw.random() * _QUIETEST_DB / 20.0)
        clip = torch.from_numpy(_NOISE_RMS * draw.standard_normal((1, _MEL.samples)))
        clip[:, start : start + wave.shape[1]] += gain * wave
        # Thousandths of a decibel: the last bits differ between kinds of processor, these do not, and so machines
        # agree on the fingerprint and may share a board.
        result[i] = _MEL(clip).numpy().round(3)
        if (i + 1) % 100 == 0 or i + 1 == len(waves):
            progress(i + 1, len(waves), "utterances")
    return result


def _enlarge(images: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Images (N, 8, 8) of 0..16 as frames (N, 1, 32, 32) uint8, bilinear.

    The weights are multiples of 1/64, so that float64 is exact up to the final rounding.
    """
    large = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None], size=(_SIDE, _SIDE), mode="bilinear", align_corners=False
    )
    frames: npt.NDArray[np.uint8] = torch.round(large * 255.0 / 16.0).to(torch.uint8).numpy()
    return frames


def _normalised(info: StoreInfo, audio: npt.NDArray[np.float32], frames: npt.NDArray[np.uint8]) -> StoreInfo:
    """``info`` with mean and std of the training split: audio in dB, frames on [0, 1]."""
    return replace(
        info,
        audio_mean=round(float(audio.mean(dtype=np.float64)), 2),
        audio_std=round(float(audio.std(dtype=np.float64)), 2),
        frame_mean=(round(float(frames.mean(dtype=np.float64)) / 255, 3),),
        frame_std=(round(float(frames.std(dtype=np.float64)) / 255, 3),),
    )


def _info(name: str, counts: dict[str, tuple[int, ...]], sources: dict[str, str]) -> StoreInfo:
    return StoreInfo(
        name=name,
        dataset="avdigits",
        dataset_version=AVDigits.version,
        classes=_WORDS,
        counts=counts,
        audio_shape=_MEL.shape,
        frame_shape=(1, _SIDE, _SIDE),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.0,),
        frame_std=(1.0,),
        visual_depth=3,
        audio_depth=3,
        grid=(4, 4),
        preset="quick",
        sample_rate_hz=_MEL.sample_rate_hz,
        audio_transform=_MEL.as_json(),
        licence="Images: CC BY 4.0. Speech: synthetic; espeak-ng is GPL, its output is unencumbered.",
        citation=_CITATION,
        sources={"scikit-learn": importlib.metadata.version("scikit-learn"), **sources},
        notes=_NOTES,
    )
