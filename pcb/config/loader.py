"""Reading params.yaml: the one loader, presets, overrides, and errors that name the place.

YAML 1.1 and 1.2 disagree on ``1e-4`` (a string here, a number there), and DVC writes such numbers
back in that form; this loader reads them as numbers, so Snakemake, DVC and the package agree.
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from pcb.config import Cluster, Files, ModelRun, Preset, Settings
from pcb.config.checks import check_consistency
from pcb.config.files import EXTERNAL_FILES
from pcb.errors import UserError

PARAMS_FILE = Path("params.yaml")
LOCAL_FILE = "params.local.yaml"
"""Facts of this machine, not in git; beside params.yaml, of which it overrides `MACHINE` keys."""
MACHINE = ("cluster", "files")
PRESET_VARIABLE = "PCB_PRESET"
INTERRUPT_VARIABLE = "PCB_ON_INTERRUPT"
T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans, refusing a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {sorted(map(str, twice))[0]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def load_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read a params file: ``{"preset": name, "presets": {name: settings}}``, not yet checked.

    `cluster` and `files` are those of the file with what the untracked local one overrides.
    """
    params = _read(path)
    if not isinstance(params, dict) or not isinstance(params.get("presets"), dict):
        raise UserError(f"{path}: expected a mapping with `preset` and `presets`")
    known = ("preset", "presets", *MACHINE)
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    local = path.with_name(LOCAL_FILE)
    own = _read(local) if local.exists() else {}
    if not isinstance(own, dict) or set(own) - set(MACHINE):
        raise UserError(f"{local}: expected {' and '.join(f'`{key}`' for key in MACHINE)} alone")
    for key in MACHINE:
        params[key] = merge(params.get(key) or {}, own.get(key) or {})
    return params


def _read(path: Path) -> Any:
    """Read a YAML file."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run pcb in the project's root") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def load_cluster(path: Path = PARAMS_FILE) -> Cluster:
    """Read and check `cluster`; PCB_ON_INTERRUPT, where it is set, decides instead of its key.

    Raises UserError naming the file and the key's path.
    """
    tree = load_params(path)["cluster"]
    choice = os.environ.get(INTERRUPT_VARIABLE)
    if choice:
        tree = {**tree, "on_interrupt": choice}
    return convert(tree, Cluster, f"{path}: cluster")


def load_files(path: Path = PARAMS_FILE) -> Files:
    """Read where files from outside lie on this machine. Raises UserError as `load_preset`."""
    return _files(load_params(path), str(path))


def active_preset(params: Mapping[str, Any]) -> str:
    """Return the preset's name: the environment's PCB_PRESET, else the file's `preset`."""
    return os.environ.get(PRESET_VARIABLE) or str(params.get("preset", "mini"))


def load_preset(name: str | None = None, path: Path = PARAMS_FILE) -> Preset:
    """Read and check one preset of a params file.

    Raises UserError naming the key's path, its value and what was expected.
    """
    params = load_params(path)
    return parse_preset(params, name or active_preset(params), str(path))


def parse_preset(params: Mapping[str, Any], name: str, source: str = "params.yaml") -> Preset:
    """Check one preset of params already read: inheritance, defaults of models, types, ranges."""
    tree = resolve(params["presets"], name, source)
    place = f"{source}: presets.{name}"
    if "files" in tree:
        raise UserError(f"{place}.files: the same for all presets; put it beside `presets`")
    runs = _runs(tree, place)
    head = {key: value for key, value in tree.items() if key not in ("model", "training")}
    preset = convert({**head, "models": {}}, Preset, place)
    files = _files(params, source)
    preset = msgspec.structs.replace(preset, models=runs, files=files)
    check_consistency(preset, place)
    return preset


def resolve(presets: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """Return a preset's settings with those that it `extends` merged in; its own ones win."""
    seen: list[str] = []
    chain: list[dict[str, Any]] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise UserError(f"{source}: presets {' -> '.join([*seen, current])} extend in a circle")
        if not isinstance(presets.get(current), dict):
            raise UserError(f"{source}: no preset {current!r}; there are {', '.join(presets)}")
        seen.append(current)
        chain.append({k: v for k, v in presets[current].items() if k != "extends"})
        current = presets[current].get("extends")
    merged: dict[str, Any] = {}
    for settings in reversed(chain):
        merged = merge(merged, settings)
    return merged


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees: mappings key by key, anything else replaced; null removes a key."""
    merged = dict(base)
    for key, value in override.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def convert(tree: Any, kind: type[T], place: str) -> T:
    """Turn plain data into settings of this kind; `place` begins the path in an error."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise UserError(_explain(error, tree, kind, place)) from None


def _runs(tree: Mapping[str, Any], place: str) -> dict[str, ModelRun]:
    """Check every model: the preset's `model` and `training`, then the entry's own settings."""
    models = tree.get("models")
    if not isinstance(models, Mapping) or not models:
        raise UserError(f"{place}.models: expected at least one named model, got {models!r}")
    runs = {}
    for name, entry in models.items():
        if not isinstance(entry, Mapping):
            raise UserError(f"{place}.models.{name} = {entry!r}: expected a mapping")
        # What was released is not trained, so it does not take over how the others are.
        shared = ("model",) if "released" in entry else ("model", "training")
        base = {key: tree[key] for key in shared if key in tree}
        runs[name] = convert(
            merge({"model": {}, **base}, entry), ModelRun, f"{place}.models.{name}"
        )
    return runs


def _files(params: Mapping[str, Any], source: str) -> Files:
    """Check where files from outside lie."""
    files = convert(params.get("files") or {}, Files, f"{source}: files")
    for name in files.own:
        if name not in EXTERNAL_FILES:
            raise UserError(
                f"{source}: files.own: no file {name!r} is known; "
                f"there are {', '.join(EXTERNAL_FILES)}"
            )
    return files


def _explain(error: msgspec.ValidationError, tree: Any, kind: Any, place: str) -> str:
    """Say where the wrong setting stands, what it is, and what was expected."""
    text, _, where = str(error).partition(" - at `$")
    path = re.findall(r"[^.\[\]`]+", where)
    value, shown = tree, place
    for part in path:
        shown += f"[{part}]" if part.isdigit() else f".{part}"
        value = _descend(value, part)
    unknown = re.match(r"Object contains unknown field `(.+)`", text)
    if unknown:
        known = _known_fields(kind, path)
        close = get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
        return f"{shown}: unknown key `{unknown[1]}`; {hint}"
    expected = text[:1].lower() + text[1:]
    return f"{shown} = {value!r}: {expected}" if path else f"{shown}: {expected}"


def _descend(value: Any, part: str) -> Any:
    """Follow one step of an error's path through plain data."""
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return value


def _known_fields(kind: Any, path: list[str]) -> list[str]:
    """Return the field names of the settings that an error's path leads to."""
    info: Any = msgspec.inspect.type_info(kind)
    for part in path:
        info = _inner(info, part)
    fields = getattr(info, "fields", ())
    return [field.encode_name for field in fields]


def _inner(info: Any, part: str) -> Any:
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


def plain(settings: Settings | tuple[Any, ...]) -> Any:
    """Return settings as plain data (dicts, lists, numbers, strings), defaults included."""
    return msgspec.to_builtins(settings)
