"""External files: one's own, published ones, and copies that are neither."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pcb.config import Files
from pcb.config.files import external_files
from pcb.config.loader import load_params, parse_preset
from pcb.config.paths import PINS
from pcb.errors import UserError
from pcb.external import catalog, files
from pcb.external.catalog import CATALOG, Source, needed_files
from pcb.external.files import external_file, external_sha256
from pcb.runtime import hashing
from tests.tasks import ROOT

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def publish(monkeypatch: pytest.MonkeyPatch, name: str, **facts: object) -> Source:
    """Let a name of the catalog stand for a file of a few bytes."""
    source = replace(CATALOG[name], **{"sha256": None, "bytes": None, **facts})
    monkeypatch.setitem(catalog.CATALOG, name, source)
    return source


def put(source: Source, content: bytes = CONTENT) -> Path:
    path = Path("external") / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]])
def test_published_file_is_compared_with_its_hash(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sha256: str
) -> None:
    source = publish(monkeypatch, "inception", sha256=sha256)
    path = put(source)
    assert external_file(Files(), "inception") == path
    assert external_sha256(Files(), "inception") == SHA256
    put(source, b"Weights")
    with pytest.raises(UserError, match=f"its SHA-256 is .*, the published one {sha256}"):
        external_file(Files(), "inception")


def test_file_of_another_size_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(publish(monkeypatch, "llamagen", bytes=9))
    with pytest.raises(UserError, match="has 7 bytes where 9 are expected"):
        external_file(Files(), "llamagen")


def test_absent_file_is_one_line_with_the_ways_out(folder: Path) -> None:
    source = CATALOG["adm-reference"]
    with pytest.raises(UserError) as caught:
        external_file(Files(folder="elsewhere"), "adm-reference")
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"elsewhere/{source.path}", source.url, "size not published"):
        assert part in message
    assert "`pcb fetch adm-reference`" in message
    assert "`pcb fetch adm-reference --from DIR`" in message


def test_first_copy_of_a_file_without_hash_is_pinned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = publish(monkeypatch, "llamagen")
    put(source)
    external_file(Files(), "llamagen")
    assert json.loads(PINS.read_text()) == {"llamagen": {"bytes": 7, "sha256": SHA256}}
    put(source, b"Weights")
    with pytest.raises(UserError, match=re.escape(f"delete llamagen from {PINS}")):
        external_file(Files(), "llamagen")
    put(source)
    assert external_file(Files(), "llamagen")


def test_file_with_a_whole_published_hash_needs_no_pin(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(publish(monkeypatch, "autoenc", sha256=SHA256))
    external_file(Files(), "autoenc")
    assert not PINS.exists()


def test_ones_own_file_is_taken_as_it_is(folder: Path) -> None:
    Path("mine.pt").write_bytes(b"mine")
    own = Files(own={"llamagen": "mine.pt"})
    assert external_file(own, "llamagen") == Path("mine.pt")
    assert external_sha256(own, "llamagen") == hashlib.sha256(b"mine").hexdigest()
    assert not PINS.exists()
    Path("mine.pt").unlink()
    with pytest.raises(UserError, match=r"files\.own\.llamagen = mine\.pt: no such file"):
        external_file(own, "llamagen")


def test_large_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(publish(monkeypatch, "autoenc", sha256=SHA256))
    monkeypatch.setattr(hashing, "SMALL", 4)
    external_file(Files(), "autoenc")
    monkeypatch.setattr(hashing, "record_file", lambda path: pytest.fail(f"{path} was read"))
    assert external_file(Files(), "autoenc")


def test_damaged_pins_are_one_line(folder: Path) -> None:
    PINS.parent.mkdir()
    PINS.write_text("{")
    with pytest.raises(UserError, match=r"pins\.json: unreadable"):
        files.read_pins()


def test_released_files_stand_in_the_released_layout() -> None:
    for name in ("autoenc", "checkerboard-L-2x", "checkerboard-L-4x"):
        for source in (CATALOG[name], CATALOG[catalog.config_of(name)]):
            assert source.path.parent == catalog.RELEASED / name
            assert source.url.endswith(source.path.relative_to(catalog.RELEASED).as_posix())
            assert re.fullmatch("[0-9a-f]{64}", source.sha256 or "")
    assert len({source.path for source in CATALOG.values()}) == len(CATALOG)


def test_state_says_what_is_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = publish(monkeypatch, "autoenc", sha256=SHA256, bytes=7)
    state = files.state_of(Files(), "autoenc")
    assert (state.word, state.bytes) == ("missing", 7)
    put(source)
    assert files.state_of(Files(), "autoenc").word == "present"
    put(source, b"Weights")
    state = files.state_of(Files(), "autoenc")
    assert state.word == "corrupt" and SHA256 in (state.problem or "")
    state = files.state_of(Files(own={"autoenc": "nowhere"}), "autoenc")
    assert state.word == "missing" and "files.own.autoenc = nowhere" in (state.problem or "")
    assert files.state_of(Files(own={"autoenc": str(put(source))}), "autoenc").word == "own"


def test_folder_in_the_place_of_a_file_is_damage(folder: Path) -> None:
    (Path("external") / CATALOG["autoenc"].path).mkdir(parents=True)
    with pytest.raises(UserError, match="is not a file"):
        external_file(Files(), "autoenc")


def test_paths_may_begin_at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    path = folder / "home" / "mine.pt"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    assert external_file(Files(own={"llamagen": "~/mine.pt"}), "llamagen") == path
    assert files.published_path(Files(folder="~/x"), CATALOG["inception"]).is_relative_to(folder)


def test_preset_of_systems_needs_their_files_and_tokenizers() -> None:
    names = needed_files(parse_preset(load_params(ROOT / "params.yaml"), "table1"))
    of_systems = {
        "LlamaGen-L", "RandAR-L", "NAR-L", "ARPG-L", "LPD-L", "VAR-d16", "VAR-d16-tokenizer",
    }  # fmt: skip
    assert set(names) >= {*of_systems, "llamagen", "inception", "adm-reference"}
    assert needed_files(parse_preset(load_params(ROOT / "params.yaml"), "table1-smoke")) == ()
    assert CATALOG["VAR-d16"].bytes == 1_243_116_346
    assert set(CATALOG) == set(external_files())


def test_what_was_not_released_is_said_with_the_way_out(folder: Path) -> None:
    with pytest.raises(UserError, match=r"PAR-L-4x: no weights of this size.*random weights run"):
        external_file(Files(), "PAR-L-4x")
    with pytest.raises(UserError, match="collections/.* leads to a file that is not named: get it"):
        external_file(Files(), "NAR-L")
    Path("nar.pt").write_bytes(b"mine")
    assert external_file(Files(own={"NAR-L": "nar.pt"}), "NAR-L") == Path("nar.pt")


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("mini", []),
        ("paper", ["inception", "adm-reference", "llamagen"]),
        (
            "paper-pretrained",
            [
                "inception", "adm-reference", "autoenc", "autoenc-config",
                "checkerboard-L-2x", "checkerboard-L-2x-config",
                "checkerboard-L-4x", "checkerboard-L-4x-config",
            ],
        ),
    ],
)  # fmt: skip
def test_preset_says_which_files_it_needs(preset: str, names: list[str]) -> None:
    settings = parse_preset(load_params(ROOT / "params.yaml"), preset)
    assert list(needed_files(settings)) == names


def test_own_file_of_no_known_name_is_refused() -> None:
    params = load_params(ROOT / "params.yaml")
    params["files"] = {"own": {"lamagen": "x"}}
    with pytest.raises(UserError, match=r"files\.own: no file 'lamagen' is known; there are"):
        parse_preset(params, "mini")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def test_what_stands_in_for_a_file_is_named_with_what_mends_it_and_never_pinned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = publish(monkeypatch, "llamagen")
    for content, what in ((POINTER, "a Git-LFS pointer"), (b"<!doctype html>", "a web page")):
        path = put(source, content)
        with pytest.raises(UserError, match=f"is not the file: {what}.*`pcb fetch llamagen`"):
            external_file(Files(), "llamagen")
        own = Files(own={"llamagen": str(path)})
        with pytest.raises(UserError, match=f"files.own.llamagen = .*: {what}.*`pcb fetch llama"):
            external_file(own, "llamagen")
    assert not PINS.exists()


def test_own_file_that_is_not_the_published_one_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, "autoenc", sha256=SHA256)
    Path("mine.pt").write_bytes(b"Weights")
    external_file(Files(own={"autoenc": "mine.pt"}), "autoenc")
    assert "mine.pt: not the published autoenc, but taken as it is: its" in capsys.readouterr().out
    Path("same.pt").write_bytes(CONTENT)
    external_file(Files(own={"autoenc": "same.pt"}), "autoenc")
    assert capsys.readouterr().out == ""
