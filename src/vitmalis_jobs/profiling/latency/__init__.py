"""The job that measures latency tables of a device and a server.

`measure.py` measures (with `durations.py` for codec and inference, `stages.py` for the client's other stages and
`fitting.py` for the lines); `job.py` stores, draws, logs and prints.
"""
