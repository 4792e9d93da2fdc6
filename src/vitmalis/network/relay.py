"""Alias of the relay's command line: `python -m vitmalis.network.relay` runs `vitmalis.network.emulation`."""

import sys

from vitmalis.network.emulation.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
