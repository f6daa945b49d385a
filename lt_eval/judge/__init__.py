"""The judge: a vision-language model behind HTTP that rates finished conversations on nine dimensions.

    conversation -> canonical clips + transcript -> messages, rubric last -> server -> raw reply, kept -> verdict

`scoring.judge` runs it, `lt-eval judge` serves, checks and estimates it. vLLM is talked to over HTTP, never imported.
"""
