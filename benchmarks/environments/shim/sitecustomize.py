"""Lets torchvision's CUDA wheel be imported beside a CPU build of torch.

Python runs this file at its start when the file's folder is on PYTHONPATH.

torchvision registers fake kernels for two operators as it is imported. Its own library, which defines them, needs CUDA
and does not load, and the registration of a kernel for an undefined operator is an error. Here both are defined,
without an implementation, in the moment in which torchvision is first looked for. vLLM's Qwen3-VL calls neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold, float scale, int zero_point) -> Tensor",
)

_defined: list[Any] = []
"""Keeps the definitions alive: torch withdraws them with the object that made them."""


class BeforeTorchvision(MetaPathFinder):
    """Finds nothing; acts once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Define the operators when torchvision is looked for, and leave the search to others."""
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call,unused-ignore]
            for schema in OPERATORS:
                library.define(schema)  # type: ignore[no-untyped-call]
            _defined.append(library)
        return None


sys.meta_path.insert(0, BeforeTorchvision())
