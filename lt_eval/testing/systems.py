"""The contracts of System and Talker, clause by clause."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.testing.contract import Contract, name_of
from lt_eval.testing.fakes import read_only, toy_portrait, toy_speech

if TYPE_CHECKING:
    from lt_eval.interfaces import System, Talker

LINES = ("Hello, who are you?", "And what did I just ask you?")


def check_system(factory: Callable[[], System], size: int = 64) -> None:
    """Check the contract of System with one conversation of two turns.

    Args:
        factory: makes the system with its default options.
        size: side of the square portrait it is given.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"System {name_of(factory)}")
    system = contract.call("the factory makes a system with no arguments", factory)
    for name in ("fps", "sample_rate"):
        value = contract.call(f"{name} can be read", getattr, system, name)
        contract.require(
            isinstance(value, (int, float)) and 0 < value < math.inf, f"{name} is a positive number", repr(value)
        )
    portrait = read_only(toy_portrait(size))
    manager = contract.call("session opens", partial(system.session, portrait, persona="You are Ann.", seed=7))
    sizes: set[tuple[int, ...]] = set()
    with manager as session:
        for number, line in enumerate(LINES):
            sizes |= _turn(contract, session, line, number, system.fps / system.sample_rate)
    contract.require(len(sizes) == 1, "all frames of a conversation have one size", sorted(sizes))
    height, width = next(iter(sizes))
    contract.require(
        height % 2 == 0 and width % 2 == 0, "frames have even sides, which H.264 needs", f"{width}x{height}"
    )


def _turn(contract: Contract, session: Any, line: str, number: int, frames_a_sample: float) -> set[tuple[int, ...]]:
    """Listen to one turn; return the sizes of its frames."""
    heard = shown = 0
    sizes: set[tuple[int, ...]] = set()
    answer = contract.call("answer takes text and audio", session.answer, line, read_only(toy_speech(1.0, number)))
    source, end = contract.call("answer returns an iterator", iter, answer), object()
    while (piece := contract.call("answer yields pieces until it ends", next, source, end)) is not end:
        text, sound, frames = piece
        contract.require(isinstance(text, str), "text of a piece is a str", type(text).__name__)
        if sound is not None:
            _require_sound(contract, sound)
            heard += len(sound)
        if frames is not None:
            contract.require(
                isinstance(frames, np.ndarray)
                and frames.dtype == np.uint8
                and frames.ndim == 4
                and frames.shape[3] == 3,
                "frames are uint8 RGB [T, H, W, 3]",
                f"{type(frames).__name__} of {getattr(frames, 'dtype', '?')} {list(getattr(frames, 'shape', ()))}",
            )
            shown += len(frames)
            sizes.add(frames.shape[1:3])
            contract.require(
                shown <= heard * frames_a_sample + 1,
                "sound is yielded no later than the frames that show it",
                f"{shown} frames after {heard} samples",
            )
    contract.require(shown > 0, "every turn has frames", f"none in turn {number}")
    contract.require(heard > 0, "every turn has sound", f"none in turn {number}")
    return sizes


def check_talker(factory: Callable[[], Talker]) -> None:
    """Check the contract of Talker with two turns.

    Args:
        factory: makes the talker with its default options.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"Talker {name_of(factory)}")
    talker = contract.call("the factory makes a talker with no arguments", factory)
    history: list[tuple[str, str]] = []
    for number, line in enumerate(LINES):
        reply = partial(talker.reply, tuple(history), line, read_only(toy_speech(1.0, number)), persona="You are Ann.")
        source, end = iter(contract.call("reply takes history, text, audio and persona=", reply)), object()
        said, heard = "", 0
        while (piece := contract.call("reply yields pieces until it ends", next, source, end)) is not end:
            contract.require(
                len(piece) == 2 and isinstance(piece[0], str), "a piece is (text, audio)", repr(piece)[:80]
            )
            _require_sound(contract, piece[1])
            said, heard = said + piece[0], heard + len(piece[1])
        contract.require(heard > 0, "every answer has sound", f"none in turn {number}")
        contract.require(heard < 600 * SAMPLE_RATE_HZ, "an answer ends", f"{heard / SAMPLE_RATE_HZ:.0f} s of sound")
        history.append((line, said))


def _require_sound(contract: Contract, sound: Any) -> None:
    contract.require(
        isinstance(sound, np.ndarray)
        and sound.ndim == 1
        and sound.dtype == np.float32
        and bool(np.isfinite(sound).all()),
        "audio is finite float32 [T]",
        f"{type(sound).__name__} of {getattr(sound, 'dtype', '?')} {list(getattr(sound, 'shape', ()))}",
    )
