"""``python -m asgnet``."""

import sys

from asgnet.cli import main

sys.exit(main())
