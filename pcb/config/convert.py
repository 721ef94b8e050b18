"""Plain data into settings and back, with errors that name the setting's place and its value."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from pcb.config import Settings
from pcb.errors import UserError

T = TypeVar("T")
_ERROR = re.compile(r"(?P<text>.*?)(?: - at (?P<key>`key` in )?`\$(?P<where>.*)`)?", re.DOTALL)
"""msgspec's message: what is wrong, and where; `[...]` there is some key of a mapping."""
_ANY_KEY = "..."


def convert(tree: Any, kind: type[T], place: str) -> T:
    """Turn plain data into settings of this kind; `place` begins the path in an error."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise UserError(_explain(error, tree, kind, place)) from None


def plain(settings: Settings | tuple[Any, ...] | dict[str, Any]) -> Any:
    """Return settings as plain data (dicts, lists, numbers, strings), defaults included."""
    return msgspec.to_builtins(settings)


def _explain(error: msgspec.ValidationError, tree: Any, kind: Any, place: str) -> str:
    """Say where the wrong setting stands, what it is, and what was expected."""
    found = _ERROR.fullmatch(str(error))
    assert found is not None, "the pattern takes any message"
    path = _path(found["where"] or "", str(error), tree, kind)
    value, shown = tree, place
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}"
        value = _descend(value, part)
    unknown = re.match(r"Object contains unknown field `(.+)`", found["text"])
    if unknown:
        return f"{shown}: {_instead(unknown[1], _known_keys(kind, path))}"
    if found["key"]:
        wrong = next((key for key in value if repr(key) in found["text"]), None)
        return f"{shown}: {_instead(str(wrong), _known_keys(kind, path))}"
    expected = found["text"][:1].lower() + found["text"][1:]
    return f"{shown} = {value!r}: {expected}" if path else f"{shown}: {expected}"


def _instead(unknown: str, known: Sequence[str]) -> str:
    """Say what may have been meant by an unknown key."""
    close = get_close_matches(unknown, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
    return f"unknown key `{unknown}`; {hint}"


def _path(where: str, message: str, tree: Any, kind: Any) -> list[str | int]:
    """Return an error's path, with those keys of mappings that msgspec does not tell."""
    path: list[str | int] = []
    value = tree
    for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", where):
        if index == _ANY_KEY:
            path.append(next((k for k in value if _says(tree, path, k, kind) == message), _ANY_KEY))
        else:
            path.append(int(index) if index else name)
        value = _descend(value, path[-1])
    return path


def _says(tree: Any, path: Sequence[str | int], key: str, kind: Any) -> str:
    """Return what msgspec says if the mapping at this path had only this key."""
    try:
        msgspec.convert(_pruned(tree, path, key), kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _pruned(tree: Any, path: Sequence[str | int], key: str) -> Any:
    """Return plain data in which the mapping at this path has only this key."""
    if not path:
        return {key: tree[key]}
    if isinstance(tree, Mapping):
        return {k: _pruned(v, path[1:], key) if k == path[0] else v for k, v in tree.items()}
    return [_pruned(v, path[1:], key) if k == path[0] else v for k, v in enumerate(tree)]


def _descend(value: Any, part: str | int) -> Any:
    """Follow one step of an error's path through plain data."""
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return value


def _known_keys(kind: Any, path: Sequence[str | int]) -> list[str]:
    """Return the keys that the settings at an error's path may have."""
    info: Any = msgspec.inspect.type_info(kind)
    for part in path:
        info = _inner(info, part)
    if isinstance(info, msgspec.inspect.DictType):
        return [str(value) for value in getattr(info.key_type, "values", ())]
    return [field.encode_name for field in getattr(info, "fields", ())]


def _inner(info: Any, part: str | int) -> Any:
    """Follow one step of an error's path through type information."""
    for field in getattr(info, "fields", ()):
        if field.encode_name == part:
            info = field.type
            break
    else:
        info = getattr(info, "item_type", None) or getattr(info, "value_type", info)
    if isinstance(info, msgspec.inspect.UnionType):
        structs = [t for t in info.types if isinstance(t, msgspec.inspect.StructType)]
        info = structs[0] if structs else info
    return info
