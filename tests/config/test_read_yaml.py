"""YAML files as people write them: what is read, and the line that is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from pcb.config.read_yaml import read_yaml
from pcb.errors import UserError


@pytest.fixture
def write(tmp_path: Path):
    def put(text: str | bytes) -> Path:
        path = tmp_path / "some.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-12", -12), ("+7", 7), ("1e3", 1e3), ("0.5", 0.5), ("1.", 1.0), ("0e1", 0.0),
        ("24:00:00", "24:00:00"), ("4:00", "4:00"), ("2024-01-31", "2024-01-31"), ("on", "on"),
        (".inf", ".inf"), (".nan", ".nan"), ("1e", "1e"), ("_1", "_1"), ("1-000", "1-000"),
        ('"010"', "010"), ("'1_6'", "1_6"), ("~", None), ("", None), ("true", True), ("a b", "a b"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_people_mean(write, text: str, value: object) -> None:
    found = read_yaml(write(f"x: {text}\n"))["x"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text", ["010", "-007", "08", "1_6", "1_000.5", "0x10", "0b11", "0o17", "1_0e3", "00"]
)
@pytest.mark.parametrize("place", ["{a: 1, x: %s}", "[1, %s]", "{%s: 1}", "[{y: {z: [%s]}}]"])
def test_a_number_that_two_readers_take_for_two_is_refused_with_its_line(
    write, text: str, place: str
) -> None:
    with pytest.raises(UserError, match=rf"some\.yaml, line 2: .*{text}.*\"{text}\"") as raised:
        read_yaml(write(f"# what\n{place % text}\n"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["1e999", "-1.0e400", "9" * 30, "9223372036854775808", "1" * 5000])
def test_a_number_beyond_all_settings_is_refused(write, text: str) -> None:
    with pytest.raises(UserError, match="line 1: .* is too large for a number"):
        read_yaml(write(f"x: {text}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1}\nc: 2\na: 3", r"line 3: key 'a' stands twice"),
        ("16: 1", 'line 1: key 16 is not a word; as a name, write "16"'),
        ("2.5: 1", "line 1: key 2.5 is not a word"),
        ("true: 1", "line 1: key true is not a word"),
        ("~: 1", "line 1: key ~ is not a word"),
        ("? [1, 2]\n: 3", "line 1: a list or mapping stands where a key belongs"),
        ("a: &a {b: *a}", "line 1: a mapping or list that stands inside itself"),
        ("a: !!int x", "line 1: 'x' is no int"),
        ("a: !!timestamp x", "line 1: .*timestamp is no kind of value"),
        ("a: !!python/name:os.system x", "line 1: .*os.system is no kind of value"),
        ("a: !!set {x}", "line 1: .*set is no kind of value"),
        ("a: [1\nb: 2", "line 2: not YAML: "),
        ("a:\n\t- b", "line 2: not YAML: "),
        ("<<: 3", "line 1: not YAML: `<<` merges mappings alone"),
        ("a: *x", "line 1: not YAML: found undefined alias"),
        ("a: 1\n---\nb: 1", "line 2: not YAML: but found another document"),
        (b"a: 1\n# caf\xe9\n", "line 2: byte 0xe9 is not UTF-8; save it as UTF-8"),
        ("a: 1".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("a: 1".encode("utf-16-le"), "UTF-16 text; save it as UTF-8"),
        (b"a: 1\nb: \x07", r"line 2: character '\\x07' cannot stand in YAML"),
        ("[" * 2000, "nested hundreds of levels deep"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_place(write, text, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s)some\\.yaml(, |: ).*?{message}") as raised:
        read_yaml(write(text))
    assert "\n" not in str(raised.value)


def test_a_folder_or_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff# nothing\r\n", "---\n"])
def test_comments_alone_are_nothing(write, text: str) -> None:
    assert read_yaml(write(text)) is None


def test_merges_are_read_and_own_keys_win(write) -> None:
    text = """
base: &base {a: 1, b: {c: &deep {<<: {x: 1, z: 1}, z: 2}}}
more: {<<: *base, a: 2}
both: {<<: [*deep, {a: 5, x: 7}], q: 1}
"""
    found = read_yaml(write(text))
    assert found["more"] == {"a": 2, "b": {"c": {"x": 1, "z": 2}}}
    assert found["both"] == {"x": 1, "z": 2, "a": 5, "q": 1}


def test_a_byte_order_mark_and_other_line_ends_are_read(write) -> None:
    assert read_yaml(write("\ufeffa: 1\r\nb: \U0001f600\r\n")) == {"a": 1, "b": "\U0001f600"}


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes("# r\xe9sum\xe9\npreset: a\n".encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-m", "pcb", "plan", "--params", str(tmp_path / "params.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pcb: ") and done.stderr.count("\n") == 1
    assert "line 1: byte 0xe9 is not UTF-8" in done.stderr
