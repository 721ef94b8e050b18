"""The loader of params.yaml: presets, overrides, and errors that name the place."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pcb.config import Cluster, Files, ModelRun, Preset, Settings, SystemRun
from pcb.config.base import NAME, NAME_LENGTH
from pcb.config.checks import check_consistency
from pcb.config.cluster import hours_of
from pcb.config.convert import convert, plain
from pcb.config.files import check_own
from pcb.config.paths import PARAMS
from pcb.config.read_yaml import read_yaml
from pcb.config.seeds import model_and_seed, trained_once_each
from pcb.errors import UserError

__all__ = [
    "active_preset",
    "check_name",
    "convert",
    "load_cluster",
    "load_files",
    "load_params",
    "load_preset",
    "merge",
    "parse_preset",
    "plain",
    "resolve",
]

LOCAL_FILE = "params.local.yaml"
"""Facts of this machine, not in git; beside params.yaml, of which it overrides `MACHINE` keys."""
MACHINE = ("cluster", "files")
PRESET_VARIABLE = "PCB_PRESET"
INTERRUPT_VARIABLE = "PCB_ON_INTERRUPT"
_OF_MODELS = ("model", "training", "seeds")
"""Keys of a preset that its own models take over; other systems take over `system`."""


def load_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read a params file: ``{"preset": name, "presets": {name: settings}}``.

    Presets are not yet checked, but for their names. `cluster` and `files` are those of the file
    with what the untracked local one overrides. Raises UserError for a file that cannot be read, a
    wrong name, and anything wrong in these two.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; run pcb in the project's root")
    params = read_yaml(path)
    if not isinstance(params, dict) or not isinstance(params.get("presets"), dict):
        raise UserError(f"{path}: expected a mapping with `preset` and `presets`")
    _check_keys(params, ("preset", "presets", *MACHINE), str(path))
    for name in params["presets"]:
        check_name(name, f"{path}: presets")
    if not isinstance(params.get("preset", ""), str):
        raise UserError(f"{path}: preset = {params['preset']!r}: expected the name of a preset")
    local = path.with_name(LOCAL_FILE)
    own = (read_yaml(local) if local.exists() else None) or {}
    if not isinstance(own, dict):
        raise UserError(f"{local}: expected {' and '.join(f'`{key}`' for key in MACHINE)} alone")
    strange = sorted(set(own) - set(MACHINE))
    if strange:
        alone = " and ".join(f"`{key}`" for key in MACHINE)
        raise UserError(f"{local}: unknown key {strange[0]!r}; expected {alone} alone")
    for key in MACHINE:
        params[key] = _machine(key, {path: params.get(key), local: own.get(key)})
    return params


def _check_keys(tree: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    """Refuse keys at the top of a file that it does not have."""
    unknown = sorted(set(tree) - set(known))
    if unknown:
        raise UserError(f"{place}: unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _machine(key: str, files: Mapping[Path, Any]) -> dict[str, Any]:
    """Merge what files say of `cluster` or `files`, each checked alone so that it is the one named.

    Raises UserError; settings that are wrong only together name all files.
    """
    merged: dict[str, Any] = {}
    said = {path: tree for path, tree in files.items() if tree is not None}
    for path, tree in said.items():
        place = f"{path}: {key}"
        if not isinstance(tree, Mapping):
            raise UserError(f"{place} = {tree!r}: expected a mapping")
        tree = hours_of(tree, place) if key == "cluster" else dict(tree)
        _CHECKS[key](merge({}, tree), place)
        merged = merge(merged, tree)
    _CHECKS[key](merged, f"{' with '.join(map(str, said))}: {key}")
    return merged


def check_name(name: str, place: str) -> None:
    """Refuse a name of a preset or a model that cannot be one of a folder on every system.

    A name that ends like that of a second training (`pcb.config.seeds`) is refused too.

    Raises UserError that begins with `place`.
    """
    if not re.fullmatch(NAME, name) or len(name) > NAME_LENGTH or name == "all":
        raise UserError(
            f"{place}: {name!r} cannot be a name, which has 1 to {NAME_LENGTH} of the characters "
            "a-z, 0-9, `_`, `.` and `-`, begins with a letter or a digit and is not `all`"
        )
    if model_and_seed(name) != (name, 0):
        raise UserError(f"{place}: {name!r} is named like another training; set `seeds` instead")


def load_cluster(path: Path = PARAMS) -> Cluster:
    """Read and check `cluster`; PCB_ON_INTERRUPT, where it is set, decides instead of its key.

    Raises UserError naming the file and the key's path.
    """
    tree = load_params(path)["cluster"]
    place = f"{path}: cluster"
    choice = os.environ.get(INTERRUPT_VARIABLE)
    if choice:
        tree, place = {**tree, "on_interrupt": choice}, f"{INTERRUPT_VARIABLE}: cluster"
    return _cluster(tree, place)


def load_files(path: Path = PARAMS) -> Files:
    """Read where external files lie on this machine. Raises UserError as `load_preset`."""
    return _files(load_params(path)["files"], f"{path}: files")


def active_preset(params: Mapping[str, Any]) -> str:
    """Return the preset's name: the environment's PCB_PRESET, else the file's `preset`."""
    return os.environ.get(PRESET_VARIABLE) or str(params.get("preset", "mini"))


def load_preset(name: str | None = None, path: Path = PARAMS) -> Preset:
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
    entries = _entries(tree, place)
    head = {key: value for key, value in tree.items() if key not in (*_OF_MODELS, "system")}
    if "systems" in head:
        raise UserError(f"{place}.systems: unknown key; systems stand under `models`")
    preset = convert({**head, "models": {}}, Preset, place)
    preset = msgspec.structs.replace(
        preset,
        models={name: run for name, run in entries.items() if isinstance(run, ModelRun)},
        systems={name: run for name, run in entries.items() if isinstance(run, SystemRun)},
        files=_files(params.get("files") or {}, f"{source}: files"),
    )
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
        if not isinstance(current, str) or current not in presets:
            raise UserError(f"{source}: no preset {current!r}; there are {', '.join(presets)}")
        if not isinstance(presets[current], Mapping):
            raise UserError(
                f"{source}: presets.{current} = {presets[current]!r}: expected a mapping"
            )
        seen.append(current)
        chain.append({k: v for k, v in presets[current].items() if k != "extends"})
        current = presets[current].get("extends")
    merged: dict[str, Any] = {}
    for settings in reversed(chain):
        merged = merge(merged, settings)
    return merged


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees: mappings key by key, anything else replaced; null removes a key.

    A mapping of another `kind` replaces the one before: what that says is of its own kind.
    """
    merged = dict(base)
    for key, value in override.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            if not isinstance(before, Mapping) or _other_kind(before, value):
                before = {}
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def _other_kind(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "kind" in value and value["kind"] != before.get("kind")


def _entries(tree: Mapping[str, Any], place: str) -> dict[str, ModelRun | SystemRun]:
    """Check every model: what the preset shares among those of its kind, then its own settings.

    A model with several seeds is an entry for each.
    """
    models = tree.get("models")
    if not isinstance(models, Mapping) or not models:
        raise UserError(f"{place}.models: expected at least one named model, got {models!r}")
    runs: dict[str, ModelRun | SystemRun] = {}
    for key in ("model", "training", "system"):
        if key in tree and not isinstance(tree[key], Mapping):
            raise UserError(f"{place}.{key} = {tree[key]!r}: expected a mapping")
    for name, entry in models.items():
        check_name(name, f"{place}.models")
        if not isinstance(entry, Mapping):
            raise UserError(f"{place}.models.{name} = {entry!r}: expected a mapping")
        own = f"{place}.models.{name}"
        if "system" in entry:
            runs[name] = convert(merge(tree.get("system", {}), entry), SystemRun, own)
            continue
        # What was released is not trained, so it does not take over how the others are.
        shared = ("model",) if "released" in entry else _OF_MODELS
        base = {key: tree[key] for key in shared if key in tree}
        run = convert(merge({"model": {}, **base}, entry), ModelRun, own)
        try:
            runs |= trained_once_each(name, run)
        except ValueError as error:
            raise UserError(f"{own}.seeds: {error}") from None
    return runs


def _cluster(tree: Mapping[str, Any], place: str) -> Cluster:
    """Check facts of a cluster."""
    return convert(tree, Cluster, place)


def _files(tree: Mapping[str, Any], place: str) -> Files:
    """Check where external files lie."""
    files = convert(tree, Files, place)
    check_own(files, place)
    return files


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], str], Settings]] = {
    "cluster": _cluster,
    "files": _files,
}
