"""How fast a generator is.

timing      one turn, chunk by chunk, on the wall clock
viewing     arrival times to figures: throughput, latency, gaps, a simulated viewer; pure functions
host        a generator in a process of its own, which can be ended when it hangs
work        what is done there: warm-up, timed runs, stages, many sessions at once
adapters    generators of others, driven untouched: a command, an HTTP endpoint

Nothing here knows any model: an iterator goes in, arrival times come out.
"""
