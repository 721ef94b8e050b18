"""Sharing results: DVC keeps the data, git the manifests; here both move together. No torch."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

import yaml

from pcb.config.loader import PRESET_VARIABLE, load_params
from pcb.config.paths import MANIFESTS, PINS, REPORTS
from pcb.errors import UserError
from pcb.pipeline.disk import linked_folders
from pcb.pipeline.leftovers import ignore_in_dvc, leftovers
from pcb.pipeline.resolved import settings_file, write_settings
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.verify import CURRENT, DAMAGED, NOT_MADE, STALE, Finding, print_findings, verify
from pcb.pipeline.workflow import hold_workflow
from pcb.runtime.surroundings import own_folder

LOCK = Path("dvc.lock")
_TEMPORARY = Path(".dvc/tmp")


def restore(pipeline: Pipeline) -> int:
    """Fetch what is missing or damaged of a preset's data; the status is 1 if some stays so.

    Whole files are left alone. A damaged file is deleted first, and its copy in the cache too, so
    that neither can be used; what comes back is read again before it counts.
    """
    _require_active(pipeline)
    hold_workflow()
    findings = verify(pipeline)
    wanted = [found for found in findings if _can_be_fetched(found)]
    if wanted:
        _report_damage(wanted)
        _discard(wanted)
        artifacts = [str(found.task.artifact) for found in wanted]
        _dvc("pull", "--force", "--allow-missing", *artifacts, check=False)
        findings = verify(pipeline)
        still = [found for found in findings if found.damaged]
        _report_damage(still)
        _discard(still)
    print_findings(findings)
    bad = [found for found in findings if not found.current]
    if not bad:
        print(f"all {len(findings)} tasks of {pipeline.name} are here and whole")
        return 0
    for found in bad:
        print(f"{found.task.name} is {found.state}; make it again with `{found.task.command}`")
    return 1


def publish(pipeline: Pipeline) -> int:
    """Record a finished preset in DVC and git, and push both.

    Raises UserError if a task is missing, stale, damaged or half-finished, or if git or DVC fails.
    """
    _require_active(pipeline)
    hold_workflow()
    findings = verify(pipeline)
    if any(not found.current for found in findings):
        print_findings(found for found in findings if not found.current)
        count = sum(not found.current for found in findings)
        raise UserError(
            f"{count} of {len(findings)} tasks of {pipeline.name} are not finished; nothing was "
            f"published; finish them with `make reproduce`"
        )
    write_settings(pipeline)
    outdated = leftovers(pipeline)
    for path in outdated:
        print(f"{path}: left out, params.yaml no longer asks for it; `pcb clean` deletes it")
    ignore_in_dvc(pipeline.name, outdated)
    _dvc("commit", "--force")
    name = pipeline.name
    pins = [PINS] if PINS.exists() else []
    manifests = [task.manifest for task in pipeline]
    own = [LOCK, settings_file(name), REPORTS / name, *manifests, *pins]
    _git("add", "--", *own)
    # What was deleted is known to git alone.
    own += _tracked(MANIFESTS / name, but=outdated)
    # Those alone: what else a person has staged stays as it is.
    if _git("diff", "--cached", "--quiet", "--", *own, check=False) != 0:
        _git("commit", "--quiet", "-m", f"results: publish {name}", "--", *own)
    _discard_cut_listings()
    _dvc("push")
    if _git("rev-parse", "--abbrev-ref", "@{upstream}", check=False, quiet=True) == 0:
        _git("push")
    else:
        print(
            "this branch has no upstream: give `git push -u REMOTE BRANCH` to share the manifests"
        )
    return 0


def _require_active(pipeline: Pipeline) -> None:
    """DVC reads the preset from params.yaml alone: refuse another."""
    params = load_params()
    if pipeline.name != params.get("preset"):
        raise UserError(
            f"params.yaml says `preset: {params.get('preset')}`, which is what DVC versions; "
            f"write `preset: {pipeline.name}` there first"
        )
    if not Path(".dvc").is_dir():
        raise UserError(".dvc: not here; run this in the root of a clone of the project")
    for problem in linked_folders(pipeline.name):
        raise UserError(problem)


def _can_be_fetched(found: Finding) -> bool:
    """Say whether DVC may have what a task lacks: its manifest, in git, says what that is."""
    return not found.task.in_git and found.state not in (CURRENT, NOT_MADE, STALE)


def _report_damage(findings: Sequence[Finding]) -> None:
    for found in findings:
        if found.state == DAMAGED:
            print(f"{found.task.name}: {found.reason}", flush=True)


def _discard(findings: Sequence[Finding]) -> None:
    """Delete damaged files and the objects of DVC's cache that they are (links of)."""
    objects = _cached_objects()
    for found in findings:
        for path in found.damaged:
            path.unlink(missing_ok=True)
            if path in objects:
                objects[path].unlink(missing_ok=True)


def _cached_objects() -> dict[Path, Path]:
    """Return the cache's object of every file that dvc.lock names: path -> object."""
    cache = Path(_dvc("cache", "dir").strip())
    found = {}
    for folder, name in _listings():
        listing = _object(cache, name)
        if listing.exists():
            for item in json.loads(listing.read_text(encoding="utf-8")):
                found[folder / item["relpath"]] = _object(cache, item["md5"])
    return found


def _listings() -> list[tuple[Path, str]]:
    """Return every folder that dvc.lock names, and the name of the object that lists its files."""
    if not LOCK.exists():
        return []
    lock = yaml.safe_load(LOCK.read_text(encoding="utf-8"))
    outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", ())]
    named = [(Path(out["path"]), str(out.get("md5", ""))) for out in outs]
    return [(path, name) for path, name in named if name.endswith(".dir")]


def _object(store: Path, name: str) -> Path:
    """Return where an object lies in a cache, or in a remote that is a folder."""
    return store / "files" / "md5" / name[:2] / name[2:]


def _discard_cut_listings() -> None:
    """Delete listings that a killed push left cut off in a remote that is a folder.

    DVC writes there in place, and takes a listing that it finds for whole: every later push would
    fail with "object ... is corrupted".
    """
    config = ConfigParser(interpolation=None)
    config.read([Path(".dvc/config"), Path(".dvc/config.local")], encoding="utf-8")
    for url in [section["url"] for section in config.values() if "url" in section]:
        for _, name in _listings():
            # DVC writes a folder's path relative to its own folder.
            path = _object(Path(".dvc") / url, name)
            if path.exists():
                content = path.read_bytes()
                if hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir" != name:
                    path.unlink()


def _dvc(*arguments: str, check: bool = True) -> str:
    """Run DVC, which shows its own progress; return what it prints on stdout.

    Raises UserError if it fails, unless `check` is off.
    """
    _check_own_files()
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != PRESET_VARIABLE}
    environment["DVC_NO_ANALYTICS"] = "1"
    # DVC's own place for it is one for all users of a machine, and belongs to the first of them.
    environment.setdefault("DVC_SITE_CACHE_DIR", str(own_folder() / "dvc"))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if arguments[0] != "cache":
        print(done.stdout, end="", flush=True)
    if check and done.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` failed; the same command resumes from here")
    return done.stdout


def _check_own_files() -> None:
    """Raise UserError for a file of DVC's own that a crash left empty: DVC would fail for ever."""
    try:
        lock = yaml.safe_load(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        lock = None
    if not isinstance(lock, dict):
        raise UserError(
            f"{LOCK}: empty or damaged; restore it with `git checkout -- {LOCK}`, or delete it if "
            "it was never committed; then give the same command again"
        )
    for path in sorted(_TEMPORARY.glob("rwlock*")):
        try:
            whole = path.suffix == ".lock" or isinstance(json.loads(path.read_bytes()), dict)
        except ValueError:
            whole = False
        if not whole:
            raise UserError(
                f"{path}: a lock file of DVC's, empty or damaged as a crash leaves it; if no DVC "
                f"runs here, delete it (`rm {path}`) and give the same command again"
            )


def _tracked(folder: Path, but: Sequence[Path]) -> list[Path]:
    """Return the files in a folder that git knows and that are gone, but for some."""
    command = ["git", "ls-files", "--deleted", "-z", "--", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return [Path(name) for name in done.stdout.split("\0") if name and Path(name) not in but]


def _git(*arguments: str | Path, check: bool = True, quiet: bool = False) -> int:
    """Run git and return its status. Raises UserError if it fails, unless `check` is off."""
    output = subprocess.DEVNULL if quiet else None
    status = subprocess.run(["git", *map(str, arguments)], stdout=output, stderr=output).returncode
    if check and status:
        raise UserError(f"`git {' '.join(map(str, arguments))}` failed")
    return status
