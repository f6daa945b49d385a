"""`python -m lt_eval` is `lt-eval`."""

from lt_eval.cli import main

main()
