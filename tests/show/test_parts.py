"""What exhibits are made of: sound that comes back, values that mean what they meant, counts, places and names."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.data.audio import LogMel
from avbench.data.samples import TrainSet
from avbench.show.confusion import confusion_counts
from avbench.show.curves import read_curve
from avbench.show.embedding import reduce_to_plane
from avbench.show.retrieving import pick
from avbench.show.room import AbsentError
from avbench.show.scale import axes_of, decibels, mel_centres_hz, pixels, transform_of
from avbench.show.sound import PEAK, invert, levelled, write_wav
from avbench.show.subject import slug


@pytest.mark.parametrize("mels", [32, 128])
def test_a_tone_comes_back_within_one_mel_band(mels: int, tmp_path: Path) -> None:
    mel = LogMel(mels=mels)
    time_s = torch.arange(mel.samples, dtype=torch.float64) / mel.sample_rate_hz
    heard = invert(mel, mel(0.3 * torch.sin(2 * np.pi * 440 * time_s)[None])[0].double().numpy(), seed=0)
    write_wav(tmp_path / "tone.wav", levelled(heard), mel.sample_rate_hz)
    with wave.open(str(tmp_path / "tone.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (11_000, 1, mel.samples)
        sound = np.frombuffer(file.readframes(mel.samples), "<i2") / 32767
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    peak_hz = np.argmax(spectrum) * mel.sample_rate_hz / len(sound)
    centres = mel_centres_hz(mel)
    band = int(np.argmin(np.abs(centres - 440)))
    assert abs(peak_hz - 440) <= max(centres[band + 1] - centres[band], mel.sample_rate_hz / mel.n_fft)
    assert np.abs(sound).max() <= PEAK + 1e-4
    assert 0.05 < np.sqrt(np.mean(sound**2)) < 0.11


def test_what_a_learned_set_holds_can_be_any_number_and_is_still_written_without_clipping() -> None:
    mel = LogMel(sample_rate_hz=8000, samples=4600, mels=16)
    wild = np.random.default_rng(0).normal(scale=200, size=mel.shape[1:])
    sound = levelled(invert(mel, wild, seed=0))
    assert np.isfinite(sound).all() and 0 < np.abs(sound).max() <= PEAK + 1e-9


def test_silence_stays_silent() -> None:
    mel = LogMel(sample_rate_hz=8000, samples=4600, mels=16)
    assert np.abs(levelled(invert(mel, np.full(mel.shape[1:], -100.0), seed=0))).max() < 1e-2
    assert not levelled(np.zeros(10)).any()


def test_the_phases_come_from_the_seed_and_leave_torch_s_generator_alone() -> None:
    mel = LogMel(sample_rate_hz=8000, samples=4600, mels=16)
    noise = np.random.default_rng(0).normal(-30, 10, size=mel.shape[1:])
    before = torch.random.get_rng_state()
    one, again, other = (invert(mel, noise, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.allclose(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_centre_frequencies_are_where_the_filters_peak() -> None:
    mel = LogMel(mels=32)
    bank = mel.filters().bank  # (bins, mels)
    bins_hz = np.linspace(0, mel.sample_rate_hz // 2, bank.shape[0])
    assert np.abs(bins_hz[bank.argmax(axis=0)] - mel_centres_hz(mel)).max() <= bins_hz[1]


def test_values_come_back_as_the_store_holds_them(small: Any) -> None:
    for channels in (1, 3):
        store = small.stores[channels]
        batch = TrainSet(store, small.CPU, torch.float64).batch(np.arange(5), "av")
        shown, clipped = pixels(store.info, batch["v"])
        raw = np.broadcast_to(store.frames["train"][:5].transpose(0, 2, 3, 1) / 255, shown.shape)
        assert clipped == 0 and np.allclose(shown, raw)
        assert np.allclose(decibels(store.info, batch["a"]), store.audio["train"][:5, 0])


def test_what_is_no_pixel_is_clipped_and_counted(small: Any) -> None:
    info = small.stores[1].info
    frames = torch.full((1, 1, 16, 16), (0.5 - info.frame_mean[0]) / info.frame_std[0])
    frames[..., :4, :] = 99.0
    shown, clipped = pixels(info, frames)
    assert clipped == 0.25 and shown.max() == 1.0


def test_without_a_known_transform_axes_are_bands_and_frames(small: Any) -> None:
    info = small.stores[1].info
    assert transform_of(info) is None
    assert (axes_of(info, 3).band_label, axes_of(info, 3).time_label) == ("band", "frame")


def test_confusion_counts_true_by_predicted() -> None:
    counts = confusion_counts(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_examples_are_the_nearest_of_the_first_pair_of_a_class() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0, 0, 0, 0], [0.3, 0.2, 0.1, 0.4], [0, 0, 0, 0]])
    first, second = pick(similarity, torch.tensor([0, 0, 1, 1]), (0, 1))
    assert (first.query, first.found) == (0, (1, 2, 3))
    assert (second.query, second.found) == (2, (3, 0, 1))


def test_a_plane_follows_from_its_seed_and_parts_what_is_apart() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=(15, 60)), rng.normal(loc=20, size=(15, 60))])
    one = reduce_to_plane(values, 0)
    assert np.array_equal(one, reduce_to_plane(values, 0))
    centres = one[:15].mean(axis=0), one[15:].mean(axis=0)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * one[:15].std()
    with pytest.raises(AbsentError, match="too few"):
        reduce_to_plane(values[:3], 0)


def test_a_torn_curve_is_read_up_to_its_tear(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text(
        '{"step": 0, "loss": 3.0}\n{"step": 1, "loss": 2.0, "other": 1}\n[]\n{"step": 2, "lo', encoding="utf-8"
    )
    curve = read_curve(path)
    assert curve["loss"][0].tolist() == [0, 1] and curve["loss"][1].tolist() == [3, 2]
    assert read_curve(tmp_path / "none.jsonl") == {}


def test_names_of_files_are_plain_and_distinct() -> None:
    names = ["a/b", "a b", "../..", "<i>", "Ünï, code", "x" * 300, ""]
    found = [slug(name, number) for number, name in enumerate(names)]
    assert len(set(found)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(name) < 50 for name in found)
