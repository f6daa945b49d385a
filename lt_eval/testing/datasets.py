"""The contract of Dataset, clause by clause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval.interfaces import HasMethods
from lt_eval.records import Dialogue, Turn
from lt_eval.testing.contract import Contract

if TYPE_CHECKING:
    from lt_eval.interfaces import Dataset


def check_dataset(dataset: Dataset) -> None:
    """Check the contract of Dataset on one that is ready to use.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"Dataset {type(dataset).__name__}")
    version = contract.call("version can be read", lambda: dataset.version)
    contract.require(isinstance(version, str) and version != "", "version is a non-empty string", repr(version))
    size = contract.call("len works", len, dataset)
    contract.require(size > 0, "it holds at least one dialogue", f"len {size}")
    items = [contract.call(f"item {index} of {size} can be read", dataset.__getitem__, index) for index in range(size)]
    for index, item in enumerate(items):
        _check_dialogue(contract, index, item)
    names = [item.id for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    contract.require(not twice, "every dialogue has an id of its own", f"{twice} more than once")
    contract.require(
        [dataset[index] for index in reversed(range(size))] == items[::-1],
        "an item depends on its index alone",
        "other items when read from the end",
    )
    for index in (size, size + 1000):
        error = contract.call(
            "an index out of range raises IndexError", dataset.__getitem__, index, allowed=(IndexError,)
        )
        contract.require(
            isinstance(error, IndexError), "an index out of range raises IndexError", f"{error!r} at {index} of {size}"
        )
    if isinstance(dataset, HasMethods):
        absent = {name: str(folder) for name, folder in dataset.methods.items() if not folder.is_dir()}
        contract.require(not absent, "every method it brings is a folder", f"no such folder: {absent}")


def _check_dialogue(contract: Contract, index: int, item: object) -> None:
    contract.require(isinstance(item, Dialogue), f"item {index} is an lt_eval.records.Dialogue", type(item).__name__)
    assert isinstance(item, Dialogue)
    contract.require(isinstance(item.id, str) and item.id != "", f"item {index} has an id", repr(item.id))
    contract.require(len(item.turns) > 0, f"dialogue {item.id!r} has at least one turn", "none")
    stated = {"portrait": item.portrait}
    for number, turn in enumerate(item.turns):
        contract.require(isinstance(turn, Turn), f"turn {number} of {item.id!r} is a Turn", type(turn).__name__)
        stated |= {f"speech of turn {number}": turn.speech, f"reference of turn {number}": turn.reference}
    for what, path in stated.items():
        contract.require(
            path is None or (isinstance(path, Path) and path.is_file()),
            f"the {what} of {item.id!r} is the Path of a file, or None",
            repr(path),
        )
