"""Set up the emulated Arm systems, or run a program in one.

python -m tools.arm                                        # set up
python -m tools.arm --run current cortex-a76 -- python3 -V   # run a program; its folder /scratch is this one
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from adq_edge.core.errors import AdqError
from tools.arm.emulation import CPUS, EmulatedSystem, why_no_emulation
from tools.arm.setup import set_up
from tools.arm.systems import SYSTEMS


def main() -> int:
    """Set up or run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", nargs=2, metavar=("SYSTEM", "CPU"), help=f"CPU: {' or '.join(CPUS)}")
    parser.add_argument("program", nargs="*")
    asked = parser.parse_args()
    try:
        problem = why_no_emulation()
        if problem is not None:
            raise AdqError(f"cannot emulate Arm: {problem}", fix="Run it as root, on such a kernel")
        if asked.run:
            (system,) = (system for system in SYSTEMS if system.name == asked.run[0])
            command = EmulatedSystem(system, asked.run[1], Path.cwd()).command(asked.program)
            os.execvp(command[0], command)
        start = time.monotonic()
        set_up(print)
        print(f"the emulated Arm systems are set up ({time.monotonic() - start:.0f} s)")
    except AdqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
