"""Read the call that made a widget from its cell, so that a copied cell has the reader's own names in it."""

import ast
import inspect
import io
import linecache
import tokenize
from collections.abc import Iterator
from itertools import islice
from types import FrameType

ARGUMENT = 'state="{state}"'
DEEPEST = 60  # frames to look through, of which libraries need about twenty
BLANK = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)


def call_with_state(cls: type) -> str:
    """Return the code that makes an object of this class right now, with `state="{state}"` as an argument.

    Ask for it while the object is being made. Where that code lies in no cell and no file, we name the arguments as
    the class does.

    Example:
        >>> class Explorer:
        ...     def __init__(self, scores, *, state=""):
        ...         self.code = call_with_state(Explorer)
        >>> Explorer([1]).code
        'Explorer([1], state="{state}")'
    """
    sources = map(_source_of_call, _frames_from(inspect.currentframe()))
    return next(filter(None, (with_state(one, cls) for one in sources)), "") or _from_signature(cls)


def with_state(source: str, cls: type) -> str:
    """Return a call with the state put in, or an empty text if the call does not make an object of this class.

    Example:
        >>> class Explorer: ...
        >>> with_state("widgets.Explorer(mine)", Explorer)
        'widgets.Explorer(mine, state="{state}")'
    """
    call = _parsed(source)
    if call is None or cls.__name__ not in ast.unparse(call.func).split("."):
        return ""
    old = next((one for one in call.keywords if one.arg == "state"), None)
    text = _added(source) if old is None else _replaced(source, old)
    return text if _parsed(text) else ""


def _frames_from(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield frames from the inner to the outer ones, because libraries stand between a widget and its cell."""
    for _ in range(DEEPEST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _source_of_call(frame: FrameType) -> str:
    """Return the text of the call that a frame is carrying out, or an empty one."""
    first, last, start, end = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    if first is None or last is None or last > len(lines):
        return ""
    part = [line.encode() for line in lines[first - 1 : last]]  # because columns count bytes
    part[-1] = part[-1][:end]
    part[0] = part[0][start:]
    return b"".join(part).decode()


def _parsed(source: str) -> ast.Call | None:
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError:
        return None
    return call if isinstance(call, ast.Call) else None


def _added(source: str) -> str:
    """Put the state behind the last argument, before a comment that may follow it."""
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(source).readline) if one.type not in BLANK]
    last, lines = tokens[-2], source.splitlines(keepends=True)
    at = sum(map(len, lines[: last.end[0] - 1])) + last.end[1]
    before = {"(": "", ",": " "}.get(last.string, ", ")
    return source[:at] + before + ARGUMENT + source[at:]


def _replaced(source: str, old: ast.keyword) -> str:
    lines, text = source.encode().splitlines(keepends=True), source.encode()
    start, end = (
        sum(map(len, lines[: line - 1])) + column
        for line, column in ((old.lineno, old.col_offset), (old.end_lineno or 1, old.end_col_offset or 0))
    )
    return (text[:start] + ARGUMENT.encode() + text[end:]).decode()


def _from_signature(cls: type) -> str:
    needed = [one for one in inspect.signature(cls).parameters.values() if one.default is one.empty]
    by_place = [one.name for one in needed if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    by_name = [f"{one.name}={one.name}" for one in needed if one.kind is one.KEYWORD_ONLY]
    return f"widgets.{cls.__name__}({', '.join([*by_place, *by_name, ARGUMENT])})"
