"""All statistics: pure numpy and scipy, seeds passed in.

`intervals` has means, shares and set metrics with their intervals; `pooled` the percentiles of judged dimensions over a
pool of methods, `pools` their frozen reference; `paired` tests of differences; `agreement` how far scores can be
trusted.
"""

from lt_eval.stats.agreement import (
    Correlations,
    LengthBias,
    VarianceSplit,
    dimension_correlations,
    krippendorff_alpha,
    length_bias,
    rank_correlation,
    variance_split,
)
from lt_eval.stats.intervals import (
    Interval,
    Vector,
    influence_difference,
    influence_interval,
    jackknife_influence,
    mean_interval,
    paired_difference,
    share_difference,
    share_interval,
)
from lt_eval.stats.paired import (
    detectable_difference,
    holm,
    power_of_difference,
    sign_flip_p,
)
from lt_eval.stats.pooled import (
    Kind,
    Pool,
    Pooled,
    Rank,
    Samples,
    Scores,
    difference,
    intersection,
    pooled_percentiles,
    ranks,
    sample_means,
)
from lt_eval.stats.pools import (
    ReferencePool,
    read_reference_pool,
    require_same_judge,
    write_reference_pool,
)

__all__ = [
    "Correlations",
    "Interval",
    "Kind",
    "LengthBias",
    "Pool",
    "Pooled",
    "Rank",
    "ReferencePool",
    "Samples",
    "Scores",
    "VarianceSplit",
    "Vector",
    "detectable_difference",
    "difference",
    "dimension_correlations",
    "holm",
    "influence_difference",
    "influence_interval",
    "intersection",
    "jackknife_influence",
    "krippendorff_alpha",
    "length_bias",
    "mean_interval",
    "paired_difference",
    "pooled_percentiles",
    "power_of_difference",
    "rank_correlation",
    "ranks",
    "read_reference_pool",
    "require_same_judge",
    "sample_means",
    "share_difference",
    "share_interval",
    "sign_flip_p",
    "variance_split",
    "write_reference_pool",
]
