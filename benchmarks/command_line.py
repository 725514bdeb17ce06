"""The parser of a benchmark's options."""

from __future__ import annotations

import argparse
from typing import Optional


def make_parser(module: str, description: Optional[str]) -> argparse.ArgumentParser:
    """Return a parser without options, whose help shows a description line by line.

    Args:
        module: name of the module that is run, such as `benchmarks.peers`.
        description: docstring of the module.
    """
    return argparse.ArgumentParser(
        f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
