"""What a page must know of its widgets: their scripts, their styles and their traits, each of them once."""

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STATE = "application/vnd.jupyter.widget-state+json"
REFERENCE = "IPY_MODEL_"  # begins the value of a trait that is another widget
HIDDEN = {"layout", "tabbable", "tooltip", "style"}  # what ipywidgets alone uses
EXPORT = re.compile(r"^export default ", re.MULTILINE)

Models = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Payload:
    """The widgets of a page.

    Args:
        scripts: modules that leave what they define in `sparsekit.scripts`, by number.
        styles: style sheets.
        data: JSON of the models by id, and of the bytes that their traits name by number, deflated and in base64.
    """

    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    data: str = ""


def models_of(notebook: Mapping[str, Any]) -> Models:
    """Return the widgets that a notebook was saved with, by id. Without any there are none."""
    return notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})


def payload_of(models: Models, shown: list[str]) -> Payload:
    """Return what a page needs to show some widgets.

    Args:
        models: as a notebook holds them.
        shown: ids of those on the page. What they are made of comes along.
    """
    parts = _needed(models, shown)
    if not parts:
        return Payload()
    scripts, styles = (_distinct(parts, key) for key in ("_esm", "_css"))
    pool: dict[str, int] = {}
    plain = {name: _plain(model, scripts, pool) for name, model in parts.items()}
    text = json.dumps({"models": plain, "bytes": [_deflated(one) for one in pool]}, separators=(",", ":"))
    modules = (EXPORT.sub(f"sparsekit.scripts[{number}] = ", script) for script, number in scripts.items())
    return Payload(tuple(map(_inside_script, modules)), tuple(styles), json_inside_script(text))


def _needed(models: Models, shown: list[str]) -> dict[str, Mapping[str, Any]]:
    """Return the models on a page in order, each before what it is made of, and the links between them."""
    needed: dict[str, Mapping[str, Any]] = {}
    waiting = [name for name in shown if name in models]
    while waiting:
        name = waiting.pop(0)
        if name not in needed:
            needed[name] = models[name]
            waiting += [child for child in _references(models[name]["state"].get("children", ())) if child in models]
    links = {name: one for name, one in models.items() if one["model_name"] in ("LinkModel", "DirectionalLinkModel")}
    ends = {
        name: set(_references([one["state"]["source"][0], one["state"]["target"][0]])) for name, one in links.items()
    }
    return needed | {name: one for name, one in links.items() if ends[name] <= set(needed)}


def _references(values: Any) -> Iterator[str]:
    return (value.removeprefix(REFERENCE) for value in values if str(value).startswith(REFERENCE))


def _distinct(models: Models, key: str) -> dict[str, int]:
    """Return the different texts that models have under a key, each with its number."""
    texts = dict.fromkeys(model["state"][key] for model in models.values() if key in model["state"])
    return {text: number for number, text in enumerate(texts)}


def _plain(model: Mapping[str, Any], scripts: Mapping[str, int], pool: dict[str, int]) -> dict[str, Any]:
    """Return a model without what all share, and with the numbers of its bytes in place of them."""
    state = json.loads(json.dumps(model["state"]))
    for buffer in model.get("buffers", ()):
        _put(state, buffer["path"], {"bytes": pool.setdefault(buffer["data"], len(pool))})
    traits = {name: value for name, value in state.items() if not name.startswith("_") and name not in HIDDEN}
    script = scripts.get(state.get("_esm", ""))
    return {"kind": model["model_name"].removesuffix("Model"), "script": script, "traits": traits}


def _deflated(data: str) -> str:
    """Return bytes in base64 smaller, without a header, as browsers inflate them."""
    small = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return base64.b64encode(small.compress(base64.b64decode(data)) + small.flush()).decode()


def _put(state: Any, path: list[Any], value: Any) -> None:
    """Put a value where a path leads, unless a later state of the widget has no such place any more."""
    try:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value
    except (IndexError, KeyError, TypeError):
        return


def json_inside_script(text: str) -> str:
    r"""Write JSON so that nothing in it can end the script element that it stands in.

    Example:
        >>> json_inside_script('["</script>"]')
        '["\\u003c/script>"]'
    """
    return text.replace("<", "\\u003c")


def _inside_script(text: str) -> str:
    """Do the same to code, in which such a text can stand in a string or a comment only."""
    return re.sub(r"<(?=/script|!--)", r"<\\", text, flags=re.IGNORECASE)
