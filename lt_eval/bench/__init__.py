"""How fast a generator is: iterator in, arrival times out. Knows nothing of any model.

    timing      one turn, chunk by chunk, on the wall clock
    viewing     arrival times to figures: throughput, latency, gaps, a simulated viewer; pure functions
    host        a generator in a process of its own, which can be ended when it hangs
    work        what is done there: warm-up, timed runs, stages, many sessions at once
    adapters    generators of others, driven untouched: a command, an HTTP endpoint
"""
