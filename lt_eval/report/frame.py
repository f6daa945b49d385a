"""The long form as a pandas frame, for notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lt_eval.report import csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lt_eval.records import Summary


def tidy_frame(summaries: Sequence[Summary], *, with_paper: str | None = None) -> pd.DataFrame:
    """Return one line per data set, method and column, as `lt-eval report --tidy` writes them.

    Args:
        summaries: one a data set; `lt_eval.store.read_summary(folder)` reads a run's.
        with_paper: published rows beside them: "table1", "table2", "table3" or "all".
    """
    import pandas as pd

    text = csv.render_tidy(summaries, with_paper=with_paper)
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values={"value": "", "low": "", "high": ""})
