"""Speaks a list of words with espeak-ng and writes the samples: run as a program, once per build.

espeak-ng keeps state between utterances, and its noise is seeded by the clock: what repeats to the bit is one
fresh process that is seeded once and then speaks one fixed sequence. Hence a program of its own, which needs
nothing but the standard library and the path of the espeak-ng library.

Usage: ``python _speech.py REQUEST ANSWER SAMPLES``. REQUEST is JSON: ``library``, ``data`` (paths) and
``utterances``, a list of [text, voice, rate in words per minute, pitch 0..100]. ANSWER becomes JSON:
``version``, ``sample_rate_hz`` and ``lengths`` (samples of each utterance); SAMPLES becomes their int16
samples end to end.
"""

from __future__ import annotations

import ctypes
import json
import sys
from array import array
from pathlib import Path
from typing import Any

# Values of espeak-ng's public header speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_RATE, _PITCH = 1, 3
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1

_SEED = 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """espeak-ng, loaded and initialised."""

    def __init__(self, library: str, data: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._lib.espeak_Info.argtypes = [ctypes.c_void_p]
        self.sample_rate_hz = int(
            self._lib.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data.encode(), _INITIALIZE_DONT_EXIT)
        )
        if self.sample_rate_hz <= 0:
            raise SystemExit(f"espeak-ng did not start with the data in {data}")
        self.version = self._lib.espeak_Info(None).decode().split()[0]
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        self._heard = array("h")
        self._callback = _Callback(self._hear)  # kept: ctypes does not hold a reference of its own
        self._lib.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._heard.frombytes(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    def say(self, text: str, voice: str, rate_wpm: int, pitch: int) -> array[int]:
        """The samples of one utterance; stops the program when espeak-ng does not know the voice."""
        self._heard = array("h")
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"espeak-ng has no voice {voice!r}")
        self._lib.espeak_SetParameter(_RATE, rate_wpm, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        raw = text.encode() + b"\0"
        status = self._lib.espeak_Synth(
            raw, ctypes.c_size_t(len(raw)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0 or self._lib.espeak_Synchronize() != 0:
            raise SystemExit(f"espeak-ng could not say {text!r} as {voice!r} (status {status})")
        return self._heard


def main(request: Path, answer: Path, samples: Path) -> None:
    """Speak what ``request`` asks for, in its order."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    speaker = Speaker(asked["library"], asked["data"])
    lengths = []
    with samples.open("wb") as file:
        for text, voice, rate_wpm, pitch in asked["utterances"]:
            heard = speaker.say(text, voice, rate_wpm, pitch)
            lengths.append(len(heard))
            heard.tofile(file)
    told = {"version": speaker.version, "sample_rate_hz": speaker.sample_rate_hz, "lengths": lengths}
    answer.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
