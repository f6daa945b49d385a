"""Evaluation and benchmarks for real-time talking-avatar video generation."""

__version__ = "0.1.0"
