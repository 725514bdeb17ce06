"""Pages of the verbs, from the help of the command line and the recorded examples."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import typer

from adq_edge.cli import NAME, app
from adq_edge.cli.groups import GENERAL
from tools.docs.examples import EXAMPLES, Example, recorded
from tools.docs.template import render

_SPECIAL = re.compile(r"([\\`*_<>\[\]|])")
_QUOTED = re.compile(r"(?<!\w)'([^' ][^']*)'(?!\w)")
_PAGE = re.compile(r"docs/([\w-]+\.md)")
_OPTION_NAME = re.compile(r"(?<![\w`-])(--[a-z][\w-]*|-[a-zA-Z])(?![\w-])")
_RANGE = re.compile(r"^(?:(?P<low>[\d.]+)<=)?x(?:>=(?P<only>[\d.]+)|<=(?P<high>[\d.]+))?$")
_BRACKETS = re.compile(r"\s*\[((?:default|env var|required|x|[\d.]+<=x)[^\]]*)\]$")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An argument or option of a verb.

    Attributes:
        group: title of its group.
        anchor: the name that links use.
        names: names and value, as in the help: `-o, --output FILE`.
        text: its help.
        facts: default, limits and environment variable, as the help has them in brackets.
    """

    group: str
    anchor: str
    names: str
    text: str
    facts: Tuple[str, ...]


def verb_pages() -> Dict[str, str]:
    """Return the texts of docs/verbs/ by file name."""
    examples = {example.verb: example for example in EXAMPLES}
    contexts = verb_contexts()
    pages = {f"{name}.md": _verb_page(context, examples[name]) for name, context in contexts.items()}
    summaries = {name: markdown(_paragraphs(context.command)[0]) for name, context in contexts.items()}
    return {**pages, "index.md": render("verbs.md.j2", verbs=summaries)}


def verb_contexts() -> Dict[str, Any]:
    """Return a context of each verb's command, which knows its options and its help."""
    group: Any = typer.main.get_command(app)
    root = group.context_class(group, info_name=NAME, **group.context_settings)
    verbs: Mapping[str, Any] = group.commands
    return {
        name: verb.context_class(verb, info_name=name, parent=root, **verb.context_settings)
        for name, verb in verbs.items()
    }


def parameters(context: Any) -> List[Parameter]:
    """Return the arguments and options of a verb that its help shows, in the order of the declaration."""
    declared = context.command.get_params(context)
    found = ((parameter, parameter.get_help_record(context)) for parameter in declared)
    return [_parameter(parameter, *shown) for parameter, shown in found if shown is not None]


def markdown(text: str) -> str:
    """Return a text of the help as Markdown: special characters escaped, options and commands as code."""
    parts = _QUOTED.split(text)
    plain = (_OPTION_NAME.sub(r"`\1`", _SPECIAL.sub(r"\\\1", part)) for part in parts[::2])
    linked = [_PAGE.sub(r"[docs/\1](../\1)", part) for part in plain]
    quoted = [f"`{part}`" for part in parts[1::2]]
    return "".join(text for pair in itertools.zip_longest(linked, quoted, fillvalue="") for text in pair)


def _verb_page(context: Any, example: Example) -> str:
    groups: Dict[str, List[Parameter]] = {}
    for parameter in parameters(context):
        groups.setdefault(parameter.group, []).append(parameter)
    return render(
        "verb.md.j2",
        name=example.verb,
        paragraphs=[markdown(paragraph) for paragraph in _paragraphs(context.command)],
        usage=" ".join([context.command_path, *context.command.collect_usage_pieces(context)]),
        example=example,
        output=recorded(example.verb),
        groups={title: "\n".join(map(_definition, found)) for title, found in groups.items()},
    )


def _paragraphs(verb: Any) -> Sequence[str]:
    return [" ".join(paragraph.split()) for paragraph in verb.help.split("\n\n")]


def _parameter(parameter: Any, names: str, text: str) -> Parameter:
    is_argument = parameter.param_type_name == "argument"
    facts: Tuple[str, ...] = ()
    brackets = _BRACKETS.search(text)
    if brackets is not None:
        text, facts = text[: brackets.start()], tuple(map(str.strip, brackets.group(1).split(";")))
    return Parameter(
        group=getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else GENERAL),
        anchor=max(parameter.opts, key=len).strip("-").replace("_", "-"),
        names=names.rsplit(" <", 1)[0] if is_argument else names,
        text=text,
        facts=facts,
    )


def _definition(parameter: Parameter) -> str:
    """Return a parameter as an entry of a definition list."""
    facts = " ".join(map(_fact, parameter.facts))
    text = markdown(parameter.text).replace("Default: ", "*Default:* ")
    return f'<span id="{parameter.anchor}"></span>`{parameter.names}`\n:   {f"{text} {facts}".strip()}\n'


def _fact(fact: str) -> str:
    """Return a fact of the help as a sentence: `*Default:* 300.`, `At least 1.`."""
    key, _, value = fact.partition(": ")
    if key in ("default", "env var"):
        return f"*{'Default' if key == 'default' else 'Environment variable'}:* {markdown(value)}."
    limits = _RANGE.match(fact)
    return markdown(fact.capitalize()) + "." if limits is None else " ".join(_limits(limits))


def _limits(limits: re.Match[str]) -> Iterator[str]:
    low, high = limits["low"] or limits["only"], limits["high"]
    if low and high:
        yield f"From {low} to {high}."
    elif low:
        yield f"At least {low}."
    elif high:
        yield f"At most {high}."
