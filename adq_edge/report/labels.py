"""Labels of engines: no two are equal, and parts that all have in common are left out."""

from __future__ import annotations

import collections
import itertools
import re
from pathlib import PurePath
from typing import Counter, Dict, List, Sequence, Tuple

from adq_edge.core.text import number_of, printable
from adq_edge.report.model import Entry
from adq_edge.report.phrasing import precision_name

_PIECES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|[^-_./, ]+|[-_./, ]+")
_SEPARATORS = "-_./, "
_GAP = " \N{HORIZONTAL ELLIPSIS} "
_LEAST_GAP = 4
"""Letters of a common part in the middle of names that is worth leaving out."""


def label_entries(entries: Sequence[Entry]) -> List[str]:
    """Return the shortest label for each measured engine that no other of them has."""
    return shorten_labels(distinguish([entry_details(entry) for entry in entries]))


def entry_details(entry: Entry) -> Tuple[str, ...]:
    """Return the name of a measured engine, and what may distinguish it from engines of that name."""
    engine, settings = entry.engine, entry.report.settings
    return engine_details(
        engine.engine.name,
        engine.precision,
        engine.runtime,
        name=engine.name,
        device=entry.device,
        threads="" if settings.threads is None else number_of(settings.threads, "thread"),
        data="" if entry.quality is None else entry.quality.data,
        created=f"{entry.report.created[:16].replace('T', ' ')} UTC",
    )


def engine_details(
    path: str,
    precision: str,
    runtime: str,
    *,
    name: str = "",
    device: str = "",
    threads: str = "",
    data: str = "",
    created: str = "",
) -> Tuple[str, ...]:
    """Return an engine's name and its details, the most telling first; folders by their last name."""
    file, kind = PurePath(path), runtime.split(" ")[0]
    own = (precision_name(precision), kind, device, threads)
    return (name or file.stem, *own, PurePath(data).name, created, file.parent.name)


def distinguish(items: Sequence[Sequence[str]]) -> List[str]:
    """Return a label for each item, no two equal as they are shown.

    Args:
        items: the name of each item, then its details, the most telling first; the same number for each. A
            detail is added where it differs between items of one name, and a number where none is left.
    """
    shown = [[printable(text) for text in item] for item in items]
    labels = [item[0] or "unnamed" for item in shown]
    for detail in range(1, min(map(len, shown), default=0)):
        for group in _repeated(labels):
            if len({shown[place][detail] for place in group}) > 1:
                for place in group:
                    labels[place] = ", ".join(filter(None, (labels[place], shown[place][detail])))
    return number_repeated(labels)


def number_repeated(names: Sequence[str]) -> List[str]:
    """Return the names, with a number behind each that occurred before."""
    taken, counts = set(names), collections.Counter(names)
    given: Counter[str] = collections.Counter()
    numbered = []
    for name in names:
        label = name
        while counts[name] > 1 and (label in taken or not given[name]):
            given[name] += 1
            label = f"{name} #{given[name]}"
        taken.add(label)
        numbered.append(label)
    return numbered


def shorten_labels(labels: Sequence[str]) -> List[str]:
    """Return different labels without the words that all begin with, end with or have at the same place.

    Args:
        labels: labels that differ; a single one is not shortened.
    """
    pieces = [_PIECES.findall(label) for label in labels]
    if len(labels) < 2:
        return list(labels)
    start, end = _common(pieces), _common([item[::-1] for item in pieces])
    fewest = min(map(len, pieces))
    start = min(start, fewest - 1)
    end = min(end, fewest - 1 - start)
    rest = [item[start : len(item) - end] for item in pieces]
    candidates = (
        ["".join(item).strip(_SEPARATORS) for item in _without_common_middle(rest)],
        ["".join(item).strip(_SEPARATORS) for item in rest],
        ["".join(item[start:]).strip(_SEPARATORS) for item in pieces],
    )
    return next((short for short in candidates if _are_distinct(short)), list(labels))


def _are_distinct(labels: Sequence[str]) -> bool:
    return all(labels) and len(set(labels)) == len(labels)


def _common(pieces: Sequence[Sequence[str]]) -> int:
    """Return the number of first pieces that all have in common."""
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*pieces)))


def _without_common_middle(pieces: Sequence[Sequence[str]]) -> List[List[str]]:
    """Replace what all have at the same places by an ellipsis, where all have equally many pieces."""
    if len(set(map(len, pieces))) > 1:
        return [list(item) for item in pieces]
    columns = list(zip(*pieces))
    kept: List[List[str]] = [[] for _ in pieces]
    for is_common, group in itertools.groupby(columns, lambda column: len(set(column)) == 1):
        found = list(group)
        words = "".join(column[0] for column in found)
        if is_common and len(words.strip(_SEPARATORS)) >= _LEAST_GAP:
            found = [(_GAP,) * len(pieces)]
        for place, item in enumerate(kept):
            item += [column[place] for column in found]
    return kept


def _repeated(labels: Sequence[str]) -> List[List[int]]:
    """Return the places of each label that occurs more than once."""
    places: Dict[str, List[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    return [group for group in places.values() if len(group) > 1]
