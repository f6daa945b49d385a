"""Fakes to test against, and checks that a plugin keeps the contracts of `lt_eval.interfaces`.

    from lt_eval.testing import check_clip_metric

    def test_blink_rate_keeps_the_contract() -> None:
        check_clip_metric(BlinkRate)

A broken clause raises `ConformanceError`, which names the clause and what was seen. Everything runs on small made-up
clips, on a CPU; a metric that can score only real ones (faces, speech) is given some through `clips`.
"""

from lt_eval.testing.contract import ConformanceError
from lt_eval.testing.datasets import check_dataset
from lt_eval.testing.fakes import ArrayClip, ToyGenerator, ToySession, toy_clip, toy_portrait, toy_samples, toy_speech
from lt_eval.testing.generators import Streaming, check_generator
from lt_eval.testing.metrics import check_clip_metric, check_set_metric
from lt_eval.testing.systems import check_system, check_talker

__all__ = [
    "ArrayClip",
    "ConformanceError",
    "Streaming",
    "ToyGenerator",
    "ToySession",
    "check_clip_metric",
    "check_dataset",
    "check_generator",
    "check_set_metric",
    "check_system",
    "check_talker",
    "toy_clip",
    "toy_portrait",
    "toy_samples",
    "toy_speech",
]
