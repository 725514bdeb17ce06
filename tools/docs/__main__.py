"""Write the generated pages of the documentation site; with --examples record the outputs of the examples.

python -m tools.docs                     # docs/verbs/, docs/results.md, docs/python.md
python -m tools.docs --examples          # all examples; about 15 minutes on two cores
python -m tools.docs --examples build    # the output of one verb
"""

from __future__ import annotations

import argparse

from tools.docs.examples import EXAMPLES, record
from tools.docs.pages import write_pages


def main() -> None:
    """Write the pages, after recording the examples that were asked for."""
    verbs = [example.verb for example in EXAMPLES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", nargs="*", choices=verbs, metavar="VERB", help="record outputs")
    asked = parser.parse_args().examples
    if asked is not None:
        record(asked or verbs)
    write_pages()


if __name__ == "__main__":
    main()
