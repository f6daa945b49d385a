"""The judge as the registry has it: `vlm`, one of the kind "judges"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval.judge.options import JudgeOptions
from lt_eval.judge.replies import ReplyStore
from lt_eval.judge.scoring import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.judge.scoring import Report
    from lt_eval.records import Conversation, Verdict


@dataclass(frozen=True)
class VLMJudge(JudgeOptions):
    """A vision-language model behind HTTP, with the options of `JudgeOptions`.

    Attributes:
        store: SQLite file of its replies.
    """

    store: str = "replies.sqlite"

    def judge(self, conversations: Sequence[Conversation], progress: Report | None = None) -> list[Verdict]:
        """Return a verdict for every conversation, dimension and repeat; raises as `scoring.judge`."""
        with ReplyStore(Path(self.store)) as replies:
            return judge(conversations, self, replies, progress)
