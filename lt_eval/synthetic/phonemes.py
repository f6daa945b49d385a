"""The phonemes of English as targets for a synthesiser and for a mouth.

Names are ARPAbet. Formant targets are those of an adult male: vowels after Peterson & Barney (1952) and Hillenbrand et
al. (1995), consonants after Klatt (1980), adjusted by us; a voice scales them. Mouth shapes are ours, by viseme.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["vowel", "glide", "nasal", "fricative", "stop", "affricate", "aspirate", "silence"]


class Formants(NamedTuple):
    """Resonances of the vocal tract in Hz."""

    f1: float
    f2: float
    f3: float


class Mouth(NamedTuple):
    """What a camera sees of a phoneme. All 0..1 but `width`, -1 (narrow) .. 1 (spread); 0 is the relaxed width.

    `closure` presses the lips together (P, B, M); `labiodental` puts the lower lip to the upper teeth (F, V).
    """

    jaw: float
    width: float = 0.0
    rounding: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    closure: float = 0.0
    labiodental: float = 0.0


class Band(NamedTuple):
    """One resonance of turbulent noise: centre and bandwidth in Hz, linear gain."""

    centre_hz: float
    bandwidth_hz: float
    gain: float


@dataclass(frozen=True)
class Phoneme:
    """How one phoneme sounds and looks.

    Attributes:
        name: ARPAbet, without stress.
        kind: manner of articulation.
        formants: target at its centre; of a diphthong, where it starts.
        mouth: shape at its centre; of a diphthong, where it starts.
        duration_s: in running speech, stressed, at rate 1.
        voicing: 0..1 of a vowel's voicing amplitude.
        glide_to: where a diphthong ends: formants and mouth.
        noise: resonances of frication or burst.
        noise_db: level of frication or burst, relative to a vowel.
        aspiration_s: breath between the release of a voiceless stop and the voice.
        coarticulation: 0..1, how far formants yield to the neighbouring vowel.
        dominance: how firmly its mouth shape holds against its neighbours'.
    """

    name: str
    kind: Kind
    formants: Formants
    mouth: Mouth
    duration_s: float
    voicing: float = 0.0
    glide_to: tuple[Formants, Mouth] | None = None
    noise: tuple[Band, ...] = ()
    noise_db: float = -120.0
    aspiration_s: float = 0.0
    coarticulation: float = 0.0
    dominance: float = 1.0

    @property
    def is_vowel(self) -> bool:
        """True for monophthongs and diphthongs."""
        return self.kind == "vowel"


BANDWIDTHS_HZ = (70.0, 100.0, 150.0, 250.0, 350.0, 600.0, 1000.0)
"""Of F1..F7 at modal voice."""

UPPER_FORMANTS_HZ = (3400.0, 4300.0, 5200.0, 6200.0)
"""F4..F7: a speaker's own, the same in every phoneme."""

_HISS = (Band(5600, 1500, 1.0), Band(7200, 1200, 0.7))
_HUSH = (Band(2700, 500, 1.0), Band(4200, 1200, 0.55), Band(5600, 1800, 0.3))
_DENTAL = (Band(6300, 3500, 1.0), Band(3000, 3000, 0.25))
_LABIAL = (Band(5200, 6000, 1.0), Band(1400, 1800, 0.5))
_VELAR = (Band(1900, 350, 1.0), Band(4000, 1500, 0.3))
_POP = (Band(700, 900, 1.0), Band(1800, 1800, 0.4))
_TAP = (Band(4300, 1300, 1.0), Band(6200, 1800, 0.6), Band(2900, 700, 0.4))


def _vowel(name: str, formants: Formants, mouth: Mouth, duration_s: float) -> Phoneme:
    return Phoneme(name, "vowel", formants, mouth, duration_s, voicing=1.0, dominance=1.0)


def _diphthong(name: str, start: tuple[Formants, Mouth], end: tuple[Formants, Mouth], duration_s: float) -> Phoneme:
    return Phoneme(name, "vowel", *start, duration_s, voicing=1.0, glide_to=end)


_VOWELS = (
    _vowel("IY", Formants(290, 2270, 3000), Mouth(0.22, 0.80, teeth=0.55), 0.130),
    _vowel("IH", Formants(410, 1980, 2580), Mouth(0.36, 0.45, teeth=0.40), 0.095),
    _vowel("EH", Formants(560, 1790, 2520), Mouth(0.56, 0.40, teeth=0.35), 0.115),
    _vowel("AE", Formants(680, 1700, 2450), Mouth(0.80, 0.50, teeth=0.35), 0.150),
    _vowel("AA", Formants(730, 1120, 2480), Mouth(0.98, 0.05, teeth=0.10), 0.150),
    _vowel("AO", Formants(600, 900, 2500), Mouth(0.78, -0.40, 0.50), 0.145),
    _vowel("AH", Formants(600, 1230, 2480), Mouth(0.58, 0.05, teeth=0.20), 0.100),
    _vowel("UH", Formants(450, 1070, 2300), Mouth(0.36, -0.45, 0.50), 0.095),
    _vowel("UW", Formants(320, 900, 2250), Mouth(0.24, -0.90, 0.95), 0.130),
    _vowel("ER", Formants(480, 1320, 1680), Mouth(0.38, -0.30, 0.40, teeth=0.25), 0.130),
    _diphthong(
        "EY",
        (Formants(500, 1800, 2520), Mouth(0.54, 0.45, teeth=0.40)),
        (Formants(340, 2200, 2800), Mouth(0.28, 0.70, teeth=0.50)),
        0.150,
    ),
    _diphthong(
        "AY",
        (Formants(710, 1220, 2480), Mouth(0.95, 0.10, teeth=0.15)),
        (Formants(400, 2000, 2650), Mouth(0.34, 0.55, teeth=0.45)),
        0.180,
    ),
    _diphthong(
        "OY",
        (Formants(560, 880, 2480), Mouth(0.66, -0.55, 0.65)),
        (Formants(400, 1900, 2550), Mouth(0.34, 0.45, teeth=0.40)),
        0.190,
    ),
    _diphthong(
        "OW",
        (Formants(540, 1080, 2450), Mouth(0.60, -0.40, 0.55)),
        (Formants(400, 850, 2350), Mouth(0.30, -0.75, 0.85)),
        0.155,
    ),
    _diphthong(
        "AW",
        (Formants(720, 1300, 2480), Mouth(0.92, 0.15, teeth=0.15)),
        (Formants(430, 950, 2400), Mouth(0.36, -0.65, 0.75)),
        0.180,
    ),
)

_SONORANTS = (
    Phoneme("W", "glide", Formants(300, 650, 2200), Mouth(0.16, -1.0, 1.0), 0.075, 0.6, dominance=1.6),
    Phoneme("Y", "glide", Formants(270, 2200, 3000), Mouth(0.20, 0.60, teeth=0.45), 0.070, 0.6, coarticulation=0.1),
    Phoneme("R", "glide", Formants(340, 1150, 1550), Mouth(0.28, -0.45, 0.50, 0.15), 0.075, 0.6, dominance=1.3),
    Phoneme(
        "L",
        "glide",
        Formants(360, 1100, 2750),
        Mouth(0.38, 0.05, teeth=0.25, tongue=0.85),
        0.070,
        0.6,
        coarticulation=0.2,
    ),
    Phoneme(
        "M",
        "nasal",
        Formants(280, 1150, 2150),
        Mouth(0.14, 0.0, closure=1.0),
        0.080,
        0.45,
        coarticulation=0.2,
        dominance=1.5,
    ),
    Phoneme(
        "N",
        "nasal",
        Formants(280, 1500, 2500),
        Mouth(0.26, 0.15, teeth=0.40, tongue=0.60),
        0.070,
        0.45,
        coarticulation=0.2,
    ),
    Phoneme("NG", "nasal", Formants(290, 1950, 2700), Mouth(0.36, 0.10, teeth=0.25), 0.085, 0.45, coarticulation=0.5),
)

_FRICATIVES = (
    Phoneme(
        "F",
        "fricative",
        Formants(340, 1100, 2100),
        Mouth(0.16, 0.10, teeth=0.30, labiodental=1.0),
        0.105,
        noise=_LABIAL,
        noise_db=-21.0,
        coarticulation=0.3,
        dominance=1.5,
    ),
    Phoneme(
        "V",
        "fricative",
        Formants(270, 1100, 2100),
        Mouth(0.16, 0.10, teeth=0.30, labiodental=1.0),
        0.075,
        0.40,
        noise=_LABIAL,
        noise_db=-26.0,
        coarticulation=0.3,
        dominance=1.5,
    ),
    Phoneme(
        "TH",
        "fricative",
        Formants(330, 1350, 2540),
        Mouth(0.28, 0.15, teeth=0.50, tongue=1.0),
        0.100,
        noise=_DENTAL,
        noise_db=-22.0,
        coarticulation=0.2,
        dominance=1.3,
    ),
    Phoneme(
        "DH",
        "fricative",
        Formants(280, 1350, 2540),
        Mouth(0.26, 0.12, teeth=0.45, tongue=0.95),
        0.060,
        0.45,
        noise=_DENTAL,
        noise_db=-30.0,
        coarticulation=0.2,
        dominance=1.2,
    ),
    Phoneme(
        "S",
        "fricative",
        Formants(320, 1500, 2530),
        Mouth(0.14, 0.35, teeth=0.80),
        0.110,
        noise=_HISS,
        noise_db=-8.0,
        coarticulation=0.2,
        dominance=1.1,
    ),
    Phoneme(
        "Z",
        "fricative",
        Formants(260, 1500, 2530),
        Mouth(0.14, 0.35, teeth=0.80),
        0.080,
        0.35,
        noise=_HISS,
        noise_db=-15.0,
        coarticulation=0.2,
        dominance=1.1,
    ),
    Phoneme(
        "SH",
        "fricative",
        Formants(320, 1800, 2600),
        Mouth(0.18, -0.45, 0.65, 0.65),
        0.115,
        noise=_HUSH,
        noise_db=-7.0,
        coarticulation=0.2,
        dominance=1.4,
    ),
    Phoneme(
        "ZH",
        "fricative",
        Formants(270, 1800, 2600),
        Mouth(0.18, -0.45, 0.65, 0.65),
        0.085,
        0.35,
        noise=_HUSH,
        noise_db=-15.0,
        coarticulation=0.2,
        dominance=1.4,
    ),
    Phoneme(
        "HH",
        "aspirate",
        Formants(500, 1500, 2500),
        Mouth(0.42, 0.05, teeth=0.1),
        0.065,
        coarticulation=1.0,
        dominance=0.4,
    ),
)

_STOPS = (
    Phoneme(
        "P",
        "stop",
        Formants(350, 900, 2150),
        Mouth(0.12, 0.0, closure=1.0),
        0.090,
        noise=_POP,
        noise_db=-9.0,
        aspiration_s=0.045,
        coarticulation=0.3,
        dominance=1.5,
    ),
    Phoneme(
        "B",
        "stop",
        Formants(230, 900, 2150),
        Mouth(0.12, 0.0, closure=1.0),
        0.085,
        0.12,
        noise=_POP,
        noise_db=-13.0,
        coarticulation=0.3,
        dominance=1.5,
    ),
    Phoneme(
        "T",
        "stop",
        Formants(350, 1750, 2650),
        Mouth(0.18, 0.20, teeth=0.65, tongue=0.45),
        0.080,
        noise=_TAP,
        noise_db=-6.0,
        aspiration_s=0.050,
        coarticulation=0.2,
    ),
    Phoneme(
        "D",
        "stop",
        Formants(230, 1750, 2650),
        Mouth(0.18, 0.20, teeth=0.60, tongue=0.45),
        0.070,
        0.12,
        noise=_TAP,
        noise_db=-11.0,
        coarticulation=0.2,
    ),
    Phoneme(
        "K",
        "stop",
        Formants(320, 1900, 2500),
        Mouth(0.34, 0.05, teeth=0.25),
        0.085,
        noise=_VELAR,
        noise_db=-7.0,
        aspiration_s=0.055,
        coarticulation=0.6,
        dominance=0.6,
    ),
    Phoneme(
        "G",
        "stop",
        Formants(230, 1900, 2500),
        Mouth(0.34, 0.05, teeth=0.25),
        0.075,
        0.12,
        noise=_VELAR,
        noise_db=-12.0,
        coarticulation=0.6,
        dominance=0.6,
    ),
    Phoneme(
        "CH",
        "affricate",
        Formants(330, 1800, 2650),
        Mouth(0.17, -0.45, 0.65, 0.65),
        0.125,
        noise=_HUSH,
        noise_db=-7.0,
        coarticulation=0.1,
        dominance=1.4,
    ),
    Phoneme(
        "JH",
        "affricate",
        Formants(250, 1800, 2650),
        Mouth(0.17, -0.45, 0.65, 0.65),
        0.100,
        0.15,
        noise=_HUSH,
        noise_db=-13.0,
        coarticulation=0.1,
        dominance=1.4,
    ),
)

SILENCE = "SIL"

PHONEMES: dict[str, Phoneme] = {
    phoneme.name: phoneme
    for phoneme in (
        *_VOWELS,
        *_SONORANTS,
        *_FRICATIVES,
        *_STOPS,
        Phoneme(SILENCE, "silence", Formants(500, 1500, 2500), Mouth(0.02), 0.25, coarticulation=1.0, dominance=0.8),
    )
}
"""ARPAbet name -> phoneme: 15 vowels, 24 consonants and silence."""

REST = PHONEMES[SILENCE].mouth


def split_stress(symbol: str) -> tuple[Phoneme, int]:
    """Read "AH0", "IY1" or "T" as a phoneme and its stress (0 none, 1 primary, 2 secondary; consonants 0).

    Raises:
        KeyError: no phoneme of that name.
    """
    name = symbol.rstrip("012")
    return PHONEMES[name], int(symbol[len(name) :] or 0)
