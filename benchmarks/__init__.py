"""How fast, against a plain implementation of the published method and against what the machine can do.

`make bench`, or `python -m benchmarks --help`; docs/speed.md says how to read what it writes.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # torch's profiler, which measures memory, is talkative; before torch
