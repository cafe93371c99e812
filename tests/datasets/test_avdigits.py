"""The embedded dataset: what it promises of its splits, its speech and its repeatability."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from avbench.data.store import SPLITS, Store, available, open_store
from avbench.dataset import NoOptions, PrepareContext
from avbench.errors import RequestError
from avbench_datasets import avdigits
from avbench_datasets.avdigits import AVDigits

_BUILD = """
import sys
from pathlib import Path
from avbench.dataset import NoOptions, PrepareContext
from avbench_datasets.avdigits import AVDigits

context = PrepareContext(Path(sys.argv[1]), "again", None, lambda done, total, what: None)
print(AVDigits(NoOptions()).prepare(context).info.fingerprint)
"""


@pytest.fixture(scope="module")
def store(avdigits_data: Path) -> Store:
    return open_store(avdigits_data, "avdigits")


def labels(store: Store, split: str) -> np.ndarray:
    return np.repeat(np.arange(10), store.info.counts[split])


def parts(store: Store, split: str) -> list[tuple[int, str]]:
    """(image, voice) of each row."""
    return [
        (int(image.removeprefix("digits-")), voice)
        for image, voice in (video.split("+", 1) for video, _ in store.samples(split))
    ]


def test_what_it_is(store: Store) -> None:
    info = store.info
    assert info.classes == ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert (info.audio_shape, info.frame_shape) == ((1, 32, 56), (1, 32, 32))
    assert (info.visual_depth, info.audio_depth, info.grid, info.preset) == (3, 3, (4, 4), "quick")
    assert set(info.sources) == {"scikit-learn", "espeakng-loader", "espeak-ng"}
    assert "CC BY 4.0" in info.licence
    assert any("SYNTHETIC" in note for note in info.notes) and any("Not a headline" in n for n in info.notes)


def test_every_split_has_every_class(store: Store) -> None:
    assert set(store.info.counts) == set(SPLITS)
    assert set(store.info.counts["train"]) == {110} and set(store.info.counts["val"]) == {20}
    assert all(40 <= count <= 60 for count in store.info.counts["test"])


def test_each_image_is_used_once_and_shows_its_class(store: Store) -> None:
    images = {split: [image for image, _ in parts(store, split)] for split in SPLITS}
    digits = load_digits()
    assert sorted(chain.from_iterable(images.values())) == list(range(len(digits.target)))
    for split in SPLITS:
        assert (digits.target[images[split]] == labels(store, split)).all()
    centre = store.frames["train"][0, 0].astype(float).reshape(8, 4, 8, 4).mean(axis=(1, 3))
    original = digits.images[images["train"][0]] * 255 / 16
    assert np.corrcoef(centre.ravel(), original.ravel())[0, 1] > 0.9


def test_voices_and_their_variants_are_disjoint_between_splits(store: Store) -> None:
    voices = {split: {voice for _, voice in parts(store, split)} for split in SPLITS}
    assert [len(voices[split]) for split in SPLITS] == [22, 5, 18]
    for one, other in combinations(SPLITS, 2):
        assert not voices[one] & voices[other]
        assert not {v.split("+")[1] for v in voices[one]} & {v.split("+")[1] for v in voices[other]}


def test_no_two_clips_are_alike(store: Store) -> None:
    clips = {clip.tobytes() for split in SPLITS for clip in store.audio[split]}
    assert len(clips) == sum(store.info.size(split) for split in SPLITS)


def test_every_clip_holds_a_word_and_a_quiet_background(store: Store) -> None:
    for split in SPLITS:
        loudness = store.audio[split].mean(axis=(1, 2))  # (N, frames) dB
        assert (loudness.max(axis=1) > np.median(loudness, axis=1).min() + 10).all()
        assert (loudness.min(axis=1) < -25).all()


def test_normalisation_is_that_of_the_training_split(store: Store) -> None:
    audio, frames = store.audio["train"], store.frames["train"] / 255
    assert store.info.audio_mean == round(float(audio.mean(dtype=np.float64)), 2)
    assert store.info.audio_std == round(float(audio.std(dtype=np.float64)), 2)
    assert store.info.frame_mean == (round(float(frames.mean()), 3),)
    assert store.info.frame_std == (round(float(frames.std()), 3),)


def test_both_modalities_can_be_learnt_and_neither_is_trivial(store: Store) -> None:
    scaled = {
        "audio": {s: (a - store.info.audio_mean) / store.info.audio_std for s, a in store.audio.items()},
        "frames": {s: f / 255.0 for s, f in store.frames.items()},
    }
    for name, values in scaled.items():
        x = {split: v.reshape(len(v), -1) for split, v in values.items()}
        model = LogisticRegression(C=0.003, max_iter=1000).fit(x["train"], labels(store, "train"))
        accuracy = model.score(x["test"], labels(store, "test"))
        assert 0.7 < accuracy < 0.97, (name, accuracy)


def test_words_fit_a_second_and_voices_differ(avdigits_data: Path) -> None:
    samples, _ = avdigits._plan(load_digits().target)
    voices = sorted({sample.voice for sample in samples})
    asked = [replace(samples[0], voice=voice, rate_wpm=rate) for voice in voices for rate in (130, 210)]
    waves, _ = avdigits._speak(asked)
    assert all(0.15 * 11_000 < wave.shape[1] <= 11_000 and wave.abs().max() > 0.05 for wave in waves)
    assert len({wave.numpy().tobytes() for wave in waves}) == len(asked)
    slow, fast = (np.mean([w.shape[1] for w in waves[i::2]]) for i in (0, 1))
    assert fast < slow


def test_another_process_builds_the_same_bytes(store: Store, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [store.info.fingerprint]


def prepare(data: Path) -> Store:
    return AVDigits(NoOptions()).prepare(PrepareContext(data, "avdigits", None, lambda done, total, what: None))


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(RequestError, match=r'pip install "avbench\[speech\]"'):
        prepare(tmp_path)
    assert available(tmp_path) == []


def test_an_espeak_without_the_voices_is_one_clear_line(
    avdigits_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(avdigits._VOICES, "train", {"xx-nowhere": "m1"})
    with pytest.raises(RequestError, match=r"espeak-ng has no voice 'xx-nowhere\+m1'"):
        prepare(tmp_path)


def test_silent_speech_is_refused(avdigits_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = avdigits._plan(load_digits().target)
    told = {"version": "0", "sample_rate_hz": 22_050, "lengths": [100]}
    monkeypatch.setattr(avdigits, "_run_speaker", lambda request: (told, np.zeros(100, np.int16)))
    with pytest.raises(RequestError, match=r"'zero' as 'en-us\+m1' is silent"):
        avdigits._speak(samples[:1])
    monkeypatch.setattr(
        avdigits, "_run_speaker", lambda request: ({**told, "lengths": [30_000]}, np.ones(30_000, np.int16))
    )
    with pytest.raises(RequestError, match="longer than a second"):
        avdigits._speak(samples[:1])
