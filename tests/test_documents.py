"""Documents: what they point to exists, and the commands that they print can be given."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from pcb.cli.main import build_parser
from pcb.published.page import page_lines
from tests.tasks import ROOT
from tests.test_layers import LEVEL

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")
PLACE = re.compile(r"`((?:pcb|tests|benchmarks|docs|workflow)/[\w./-]*)`")
COMMAND = re.compile(r"^\s*(?:\S+=\S+ )*pcb ([^#`\n]+)|`pcb ([^`\n]+)`", re.MULTILINE)
TARGET = re.compile(r"\bmake ([a-z-]+)(?=[ `]|$)", re.MULTILINE)


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    missing = [
        link
        for link in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_places_in_the_repository_are_there(document: Path) -> None:
    """`NAME` in one stands for what a reader chooses."""
    named = PLACE.findall(document.read_text(encoding="utf-8"))
    missing = [place for place in named if "NAME" not in place and not (ROOT / place).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_commands_are_ones_that_there_are(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = build_parser()
    for found in COMMAND.findall(document.read_text(encoding="utf-8")):
        command = next(filter(None, found)).strip()
        words = shlex.split(command.replace("...", "x"))
        if len(words) == 1:
            # A verb that is only named.
            words.append("--help")
        try:
            parser.parse_args(words)
        except SystemExit as stop:
            assert stop.code == 0, f"pcb {command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_targets_of_make_are_ones_that_there_are(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    code = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", document.read_text(encoding="utf-8"), re.S)
    named = {target for part in code for text in part for target in TARGET.findall(text)}
    assert named <= targets, f"{document.name}: {named - targets}"


SECTION = re.compile(r"method sections? (\d+)(?: and (\d+))?", re.IGNORECASE)


def test_sections_of_the_method_that_code_cites_exist() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    there = set(re.findall(r"^## (\d+) ", method, re.MULTILINE))
    cited = {
        (path.relative_to(ROOT).as_posix(), number)
        for folder in ("pcb", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for found in SECTION.findall(path.read_text(encoding="utf-8"))
        for number in found
        if number
    }
    assert len(cited) > 20
    assert not [(path, number) for path, number in cited if number not in there]


DOTTED = re.compile(r"(?<![\w./-])pcb(?:\.[A-Za-z_]\w*)+")


def resolves(name: str) -> bool:
    """Say whether a dotted name is a module, or something in one, or a field of that."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if part in getattr(found, "__annotations__", {}):
                return True
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_dotted_names_in_code_and_documents_are_ones_that_there_are() -> None:
    files = [*DOCUMENTS, ROOT / "params.yaml", ROOT / "Snakefile"]
    for folder in ("pcb", "benchmarks", "tests", "workflow"):
        for suffix in ("py", "md", "smk", "yaml"):
            files += (ROOT / folder).rglob(f"*.{suffix}")
    named = {name: path for path in files for name in DOTTED.findall(path.read_text("utf-8"))}
    del named["pcb.sif"]  # The image of a container.
    assert len(named) > 200
    assert not {name: path for name, path in named.items() if not resolves(name)}


def test_the_page_about_systems_is_the_catalogs() -> None:
    page = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    begin = "<!-- the catalog: `python -m pcb.published.page` prints this -->\n"
    between = page.split(begin)[1].split("<!-- end of the catalog -->")[0]
    assert between.strip().splitlines() == list(page_lines())


TREE = re.compile(r"^      (\w+)(?:/|\.py) +(\S.*\n(?: {27}\S.*\n)*)", re.MULTILINE)
"""What README's tree says of a package or module below `pcb/`, with the lines that go on."""


def test_readmes_tree_says_what_packages_say_of_themselves() -> None:
    """One clause each; that a package loads no torch is said by itself alone."""
    own = {path.stem: path for path in (ROOT / "pcb").glob("*.py") if path.stem[0] != "_"}
    own |= {path.parent.name: path for path in (ROOT / "pcb").glob("*/__init__.py")}
    said = {}
    for name, path in own.items():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring is not None, name
        clause = docstring.removesuffix(" No torch.")
        said[name] = clause[0].lower() + clause.removesuffix(".")[1:]
    tree = TREE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {name: " ".join(clause.split()) for name, clause in tree} == said
    levels = [LEVEL[name] for name, _ in tree]
    assert levels == sorted(levels), "not in the order of imports"
