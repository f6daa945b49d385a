"""Who is seen: everything about a drawn person, their clothes and the room that does not change within a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

_T = TypeVar("_T")

Colour = tuple[int, int, int]
"""RGB, 0..255."""

HairStyle = Literal["bald", "buzz", "short", "swept", "bun", "bob", "long", "curly", "fringe"]
Beard = Literal["none", "stubble", "full"]
Clothes = Literal["crew", "vneck", "shirt", "jacket"]
Backdrop = Literal["plain", "lights", "shelves", "window", "outdoors"]


@dataclass(frozen=True)
class Identity:
    """A drawn person. Proportions are factors about 1; lengths are in head heights.

    Attributes:
        width: of the face. `jaw`: of the jaw. `chin`: length of the chin.
        eye_size: of the eyes. `eye_gap`: between them. `eye_tilt`: of their outer corners, upwards.
        brow: thickness of the brows. `nose`: size. `mouth`: width. `lips`: fullness.
        light: -1 from the left .. 1 from the right.
        head_height: fraction of the frame. `head_x`, `head_y`: where its centre rests, fractions of the frame.
        texture_seed: of strands, freckles and the room.
    """

    skin: Colour
    hair: Colour
    hair_name: str
    hair_style: HairStyle
    iris: Colour
    lip: Colour
    top: Colour
    clothes: Clothes
    backdrop: Backdrop
    room: Colour
    room_name: str
    width: float = 1.0
    jaw: float = 1.0
    chin: float = 1.0
    eye_size: float = 1.0
    eye_gap: float = 1.0
    eye_tilt: float = 0.0
    brow: float = 1.0
    nose: float = 1.0
    mouth: float = 1.0
    lips: float = 1.0
    light: float = -0.4
    beard: Beard = "none"
    glasses: bool = False
    lashes: float = 0.5
    freckles: bool = False
    head_height: float = 0.56
    head_x: float = 0.5
    head_y: float = 0.43
    texture_seed: int = 0

    @property
    def description(self) -> str:
        """A noun phrase for the prompt."""
        hair = {
            "bald": "a bald head",
            "buzz": f"very short {self.hair_name} hair",
            "short": f"short {self.hair_name} hair",
            "swept": f"swept-back {self.hair_name} hair",
            "bun": f"{self.hair_name} hair in a bun",
            "bob": f"a {self.hair_name} bob",
            "long": f"long {self.hair_name} hair",
            "curly": f"curly {self.hair_name} hair",
            "fringe": f"{self.hair_name} hair with a fringe",
        }[self.hair_style]
        extras = [name for name, worn in (("glasses", self.glasses), ("a beard", self.beard == "full")) if worn]
        return "a person with " + " and ".join([hair, *extras])


_SKINS: tuple[Colour, ...] = (
    (250, 216, 196),
    (242, 202, 176),
    (230, 184, 152),
    (212, 162, 124),
    (188, 134, 98),
    (154, 104, 74),
    (118, 78, 56),
    (92, 60, 46),
)
_HAIRS: tuple[tuple[str, Colour], ...] = (
    ("black", (30, 26, 26)),
    ("dark brown", (58, 38, 28)),
    ("brown", (96, 62, 40)),
    ("auburn", (122, 58, 34)),
    ("red", (166, 82, 40)),
    ("blond", (206, 166, 104)),
    ("grey", (150, 148, 146)),
    ("white", (214, 212, 208)),
)
_DARK_HAIRS = _HAIRS[:3] + _HAIRS[6:7]
_IRISES: tuple[Colour, ...] = (
    (84, 52, 30),
    (62, 40, 26),
    (110, 84, 44),
    (70, 104, 74),
    (72, 112, 150),
    (104, 124, 138),
)
_TOPS: tuple[Colour, ...] = (
    (40, 52, 84),
    (150, 44, 50),
    (52, 92, 72),
    (226, 222, 212),
    (64, 64, 70),
    (198, 152, 60),
    (112, 78, 128),
    (44, 118, 140),
    (196, 116, 98),
)
_ROOMS: tuple[tuple[str, Colour], ...] = (
    ("grey", (152, 156, 160)),
    ("blue", (98, 132, 164)),
    ("green", (118, 146, 120)),
    ("beige", (202, 184, 158)),
    ("dark", (58, 62, 74)),
    ("rose", (188, 148, 146)),
    ("teal", (74, 126, 130)),
)
_HIGH_STYLES: tuple[HairStyle, ...] = ("bun", "bob", "long", "curly", "fringe", "long", "short")
_LOW_STYLES: tuple[HairStyle, ...] = ("bald", "buzz", "short", "swept", "short", "curly", "swept")


def _pick(options: Sequence[_T], rng: Generator) -> _T:
    return options[int(rng.random() * len(options))]


def _lip_colour(skin: Colour, strength: float) -> Colour:
    red, green, blue = skin
    target = (red * 0.86 + 12, green * 0.60, blue * 0.62)
    return (
        round(red + strength * (target[0] - red)),
        round(green + strength * (target[1] - green)),
        round(blue + strength * (target[2] - blue)),
    )


def make_identity(rng: Generator, *, high: bool | None = None) -> Identity:
    """Draw a person. `high` asks for the looks that go with a high voice here: no beard, fuller lips, softer jaw."""
    if high is None:
        high = bool(rng.random() < 0.5)
    tone = int(rng.random() * len(_SKINS))
    hair_name, hair = _pick(_HAIRS if tone < 4 else _DARK_HAIRS, rng)
    room_name, room = _pick(_ROOMS, rng)
    beards: tuple[Beard, ...] = ("none", "none", "stubble", "full")
    return Identity(
        skin=_SKINS[tone],
        hair=hair,
        hair_name=hair_name,
        hair_style=_pick(_HIGH_STYLES if high else _LOW_STYLES, rng),
        iris=_pick(_IRISES if tone < 4 else _IRISES[:3], rng),
        lip=_lip_colour(_SKINS[tone], rng.uniform(0.85, 1.15) if high else rng.uniform(0.5, 0.75)),
        top=_pick(_TOPS, rng),
        clothes=_pick(("crew", "vneck", "shirt", "jacket"), rng),
        backdrop=_pick(("plain", "lights", "shelves", "window", "outdoors"), rng),
        room=room,
        room_name=room_name,
        width=rng.uniform(0.93, 1.02) if high else rng.uniform(0.96, 1.06),
        jaw=rng.uniform(0.86, 0.98) if high else rng.uniform(0.98, 1.12),
        chin=rng.uniform(0.94, 1.06),
        eye_size=rng.uniform(1.0, 1.16) if high else rng.uniform(0.9, 1.04),
        eye_gap=rng.uniform(0.95, 1.06),
        eye_tilt=rng.uniform(-0.04, 0.10),
        brow=rng.uniform(0.6, 0.9) if high else rng.uniform(0.9, 1.35),
        nose=rng.uniform(0.82, 1.0) if high else rng.uniform(0.95, 1.18),
        mouth=rng.uniform(0.92, 1.06),
        lips=rng.uniform(1.0, 1.3) if high else rng.uniform(0.75, 1.05),
        light=rng.uniform(-0.7, 0.7),
        beard="none" if high else _pick(beards, rng),
        glasses=bool(rng.random() < 0.25),
        lashes=rng.uniform(0.6, 1.0) if high else rng.uniform(0.1, 0.4),
        freckles=bool(tone < 3 and rng.random() < 0.25),
        head_height=rng.uniform(0.52, 0.60),
        head_x=rng.uniform(0.47, 0.53),
        head_y=rng.uniform(0.42, 0.46),
        texture_seed=int(rng.random() * 2**31),
    )
