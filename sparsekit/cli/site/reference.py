"""The reference: a page for each room, with all that its public names say of themselves."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from textwrap import dedent
from types import ModuleType
from typing import Any, get_origin

from sparsekit.cli.site.bodies import Body, Section, markdown_body
from sparsekit.cli.site.pages import Page
from sparsekit.cli.site.recording import INSTALL
from sparsekit.utils.optional import require

ROOT = "sparsekit"
ROOMS = (  # in the order of the floors, from above
    *("widgets", "plots", "experiments", "experiments.recipes", "experiments.lottery", "experiments.sup_tickets"),
    *("experiments.sweeps", "experiments.trackers", "analysis", "train", "tickets", "rules", "scores", "tricks"),
    *("rewiring", "layers", "layers.exporting", "kernels", "topology", "datasets", "models", "schedules"),
    *("evaluation", "evaluation.losses"),
)
EXAMPLE = re.compile(r"^Examples?:\n((?:(?: {4}.*)?\n?)+)", re.MULTILINE)
PART = re.compile(r"^###### (.*):$", re.MULTILINE)
MODULES = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])")  # before the names of types, where they only make lines long
NAMED = re.compile(r"<code>(\w+(?:\.\w+)*)(?:\(\))?</code>")


@dataclass(frozen=True)
class Entry:
    """A public name in a room.

    Args:
        room: the module that shows it.
        name: in the room, where a method follows its class after a point.
        thing: what it names.
        text: its docstring.
    """

    room: str
    name: str
    thing: Any
    text: str

    @property
    def file(self) -> str:
        """The page that describes it."""
        return file_of_room(self.room)

    @property
    def summary(self) -> str:
        """The first sentence or paragraph of its docstring."""
        return " ".join(self.text.partition("\n\n")[0].split())


def reference_pages() -> list[Page]:
    """Return a page for `sparsekit` itself and one for each room.

    A name that several rooms offer is described once. The other pages name it, and lead there.

    Raises:
        ImportError: if the packages of notebooks are missing.
    """
    rooms = {room: entries_of(room) for room in (ROOT, *(f"{ROOT}.{name}" for name in ROOMS))}
    homes: dict[int, Entry] = {}
    for entry in (one for entries in rooms.values() for one in entries):
        homes.setdefault(id(entry.thing), entry)
    addresses = _addresses(rooms)
    return [_page(room, entries, homes, addresses) for room, entries in rooms.items()]


def file_of_room(room: str) -> str:
    """Return where the page of a room goes.

    Example:
        >>> file_of_room("sparsekit.plots")
        'reference/sparsekit.plots.html'
    """
    return f"reference/{room}.html"


def entries_of(room: str) -> list[Entry]:
    """Return the public names of a module, and the methods of its classes.

    Raises:
        ImportError: if there is no such module.

    Example:
        >>> [entry.name for entry in entries_of("sparsekit.models")]
        ['build']
    """
    module = importlib.import_module(room)
    return [entry for name in public_names(module) for entry in _with_methods(room, name, getattr(module, name))]


def public_names(module: ModuleType) -> list[str]:
    """Return the names that a module offers, without the modules among them.

    Example:
        >>> import sparsekit.models
        >>> public_names(sparsekit.models)
        ['build']
    """
    own_names = [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    ]
    names = getattr(module, "__all__", own_names)
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def _with_methods(room: str, name: str, thing: Any) -> Iterator[Entry]:
    yield Entry(room, name, thing, _text_of(room, name, thing))
    if inspect.isclass(thing):
        fields = getattr(thing, "__dataclass_fields__", {})
        for method, member in vars(thing).items():
            is_method = inspect.isroutine(member) or isinstance(member, property)
            if is_method and not method.startswith("_") and method not in fields:
                text = inspect.getdoc(getattr(thing, method)) or _text_of_part(method)
                yield Entry(room, f"{name}.{method}", member, text)


def _text_of_part(method: str) -> str:
    """Return what `rules/parts.py` says of a member that a rule may have."""
    parts = vars(importlib.import_module("sparsekit.rules.parts")).values()
    texts = (inspect.getdoc(vars(part)[method]) for part in parts if inspect.isclass(part) and method in vars(part))
    return next(filter(None, texts), "")


def _text_of(room: str, name: str, thing: Any) -> str:
    """Return what a thing says of itself. A constant and the name of a type say it below their definition."""
    if get_origin(thing) is None and thing.__doc__ != type(thing).__doc__:
        return inspect.getdoc(thing) or ""
    trees = require("pdoc.doc_ast", install=INSTALL)
    modules = [one for path, one in sorted(sys.modules.items()) if path == room or path.startswith(f"{room}.")]
    texts = (trees.walk_tree(one).var_docstrings.get(name) for one in modules if vars(one).get(name) is thing)
    return next(filter(None, texts), "")


def _addresses(rooms: dict[str, list[Entry]]) -> dict[str, str]:
    """Return the address of each name that a text may mention, alone or after its room."""
    addresses: dict[str, str] = {}
    for entry in (one for entries in rooms.values() for one in entries):
        address = f"{entry.file}#{entry.name}"
        for name in (entry.name, f"{entry.room.removeprefix(f'{ROOT}.')}.{entry.name}"):
            addresses.setdefault(name, address)
    return addresses | {room.removeprefix(f"{ROOT}."): file_of_room(room) for room in rooms}


def _page(room: str, entries: list[Entry], homes: dict[int, Entry], addresses: dict[str, str]) -> Page:
    """Make the page of a room."""
    at_home = [entry for entry in entries if homes[id(entry.thing)] is entry]
    text = f"{inspect.getdoc(sys.modules[room])}\n\n"
    if room == ROOT:
        text += "\n".join(["These are its rooms.\n", *(f"- `{name}`: {_summary_of_room(name)}" for name in ROOMS)])
    parts = [_described(one) if one in at_home else _mentioned(one, homes[id(one.thing)]) for one in entries]
    body = markdown_body("\n\n".join([f"# {room}", text, *parts]), lambda href: href)
    here = addresses | {entry.name: f"#{entry.name}" for entry in at_home}
    html = NAMED.sub(lambda match: _linked(match, here), body.html)
    sections = tuple(Section(one.name, one.name, 2, one.summary) for one in at_home if "." not in one.name)
    return Page(file_of_room(room), Body(room, html, (replace(body.sections[0], text=""), *sections)), "reference")


def _summary_of_room(name: str) -> str:
    text = inspect.getdoc(importlib.import_module(f"{ROOT}.{name}")) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def _described(entry: Entry) -> str:
    """Return all about a name in Markdown."""
    signature = MODULES.sub("", _signature(entry))
    return f"{_heading(entry)}\n\n```python\n{signature}\n```\n\n{_markdown(entry.text)}"


def _mentioned(entry: Entry, home: Entry) -> str:
    """Return where to read about a name that another page describes."""
    target = f"{home.file.rpartition('/')[2]}#{home.name}"
    return f"{_heading(entry)}\n\n{entry.summary} See [{home.room}.{home.name}]({target})."


def _heading(entry: Entry) -> str:
    level = 3 if "." in entry.name else 2
    return f'<h{level} data-anchor="{entry.name}">{escape(entry.name)}</h{level}>'


def _signature(entry: Entry) -> str:
    """Return how a name is called, as pdoc writes it. What is not called has its name only."""
    docs, thing = require("pdoc.doc", install=INSTALL), entry.thing
    if inspect.isclass(thing):
        doc = docs.Class(thing.__module__, thing.__qualname__, thing, (thing.__module__, thing.__qualname__))
        function = doc.members.get("__init__")
        return f"class {entry.name}{function.signature_without_self if function is not None else ''}"
    function = getattr(thing, "__func__", thing)
    if not inspect.isfunction(function):
        return entry.name
    doc = docs.Function(function.__module__, function.__qualname__, thing, ("", ""))
    is_bound = "." in entry.name and not isinstance(thing, staticmethod)
    return f"{entry.name}{doc.signature_without_self if is_bound else doc.signature}"


def _markdown(text: str) -> str:
    """Return a docstring in Markdown, with its examples as code."""
    with_code = EXAMPLE.sub(lambda match: f"**Example**\n\n```pycon\n{dedent(match[1]).strip()}\n```\n\n", text)
    markdown = require("pdoc.docstrings", install=INSTALL).convert(with_code, "google", None)
    return PART.sub(r"\n**\1**\n", markdown)


def _linked(match: re.Match[str], addresses: dict[str, str]) -> str:
    """Return a name in a text with a link to what it names, if the reference has that."""
    address = addresses.get(match[1].removeprefix(f"{ROOT}."))
    return match[0] if address is None else f'<a href="{address.removeprefix("reference/")}">{match[0]}</a>'
