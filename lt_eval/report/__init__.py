"""Summaries as CSV, LaTeX, HTML and Markdown."""
