"""Reading of YAML files into plain data; an error is one line with the file and the line number.

YAML 1.1 and 1.2 disagree on ``1e-4`` (a string here, a number there), ``010`` (eight, ten),
``1:30`` (ninety, a string) and ``off``. Numbers are read as in 1.2, so that every reader of
params.yaml means the same; what the two would read as different numbers is refused, not guessed.
"""

import codecs
import math
import re
from pathlib import Path
from typing import Any

import yaml

from pcb.errors import UserError

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_AMBIGUOUS = re.compile(
    r"[-+]?(?:0[0-9]+|0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+"
    r"|(?=[^_]*_)[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?)"
)
"""Leading zeros, other bases, underscores: a number to one reader and a word to the next."""
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LARGEST = 2**63 - 1


class _Loader(yaml.SafeLoader):
    """SafeLoader with the numbers and booleans above, and without dates."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put in what `<<` merges: own keys win, then the first of several mappings.

        PyYAML 6.0.4 lets a merged mapping's own merges win over its keys.
        """
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for key, value in reversed(node.value):
            if key.tag == _MERGE:
                several = isinstance(value, yaml.SequenceNode)
                for source in reversed(value.value) if several else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise yaml.constructor.ConstructorError(
                            problem="`<<` merges mappings alone", problem_mark=source.start_mark
                        )
                    self.flatten_mapping(source)
                    merged += source.value
        node.value = merged + [pair for pair in node.value if pair[0].tag != _MERGE]


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [pair for pair in resolvers if pair[0][len(_TAG) :] in ("null", "merge")])
}
for _kind, _pattern, _firsts in (
    ("bool", _BOOLEAN, "tTfF"),
    ("int", _INTEGER, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    # A resolver's pattern has to match from the beginning to the end by itself.
    _Loader.add_implicit_resolver(
        f"{_TAG}{_kind}", re.compile(rf"(?:{_pattern.pattern})\Z"), list(_firsts)
    )


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds; None if it holds comments alone.

    Raises UserError naming the file and, where there is one, the line: a missing or unreadable
    file, one that is not UTF-8 or not YAML, a key that stands twice or is no string, a number that
    YAML's versions read differently or that is too large.
    """
    loader = _Loader(_printable(read_text(path), path))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, path, ())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}"
        problem = " ".join(str(error.problem or error.context or "").split())
        raise UserError(f"{path}{where}: not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{path}: not settings: nested hundreds of levels deep") from None
    finally:
        loader.dispose()


def read_text(path: Path) -> str:
    """Return a file's text, which has to be UTF-8, without its byte order mark.

    Raises UserError naming the file, and the line that is in another encoding.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise UserError(f"{path}: UTF-16 text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None
    return text


def _printable(text: str, path: Path) -> str:
    """Return a text, or refuse a character that YAML does not allow."""
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise UserError(
            f"{path}, line {line}: character {control[0]!a} cannot stand in YAML; delete it"
        )
    return text


def _check(node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> None:
    """Refuse keys that stand twice or are no strings, and values of kinds that no setting has."""
    where = f"{path}, line {node.start_mark.line + 1}"
    if node in above:
        raise UserError(f"{where}: a mapping or list that stands inside itself")
    inside = (*above, node)
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, where)
    elif node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
        raise UserError(f"{where}: {node.tag} is no kind of value that a setting has")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, path, inside)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            _check_key(key, keys, f"{path}, line {key.start_mark.line + 1}")
            _check(value, path, inside)


def _check_key(key: yaml.Node, before: set[str], where: str) -> None:
    """Refuse one key of a mapping, `before` being those that stand in it already."""
    if key.tag == _MERGE:
        return
    if not isinstance(key, yaml.ScalarNode):
        raise UserError(f"{where}: a list or mapping stands where a key belongs")
    if key.tag != f"{_TAG}str" or _is_ambiguous(key):
        raise UserError(f'{where}: key {key.value} is not a word; as a name, write "{key.value}"')
    if key.value in before:
        raise UserError(f"{where}: key {key.value!r} stands twice")
    before.add(key.value)


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    """Refuse a number that is not one to every reader, or larger than any setting."""
    kind = node.tag.removeprefix(_TAG)
    patterns = {"int": _INTEGER, "float": _FLOAT, "bool": _BOOLEAN}
    if kind not in (*patterns, "null", "str"):
        raise UserError(f"{where}: {node.tag} is no kind of value that a setting has")
    if kind in patterns and not patterns[kind].fullmatch(node.value):
        raise UserError(f"{where}: {node.value!r} is no {kind}")
    if _is_ambiguous(node):
        raise UserError(
            f"{where}: {node.value} means different things to different readers of YAML; write a "
            f'decimal number without leading zeros or underscores, or "{node.value}" for a word'
        )
    if kind == "float" and not math.isfinite(float(node.value)):
        raise UserError(f"{where}: {node.value} is too large for a number")
    digits = len(node.value.lstrip("+-"))
    if kind == "int" and (digits > len(str(_LARGEST)) or abs(int(node.value)) > _LARGEST):
        raise UserError(f"{where}: {node.value[:40]} is too large for a number")


def _is_ambiguous(node: yaml.ScalarNode) -> bool:
    """Say whether an unquoted word would be a number to another reader of YAML."""
    return node.style is None and bool(_AMBIGUOUS.fullmatch(node.value))
