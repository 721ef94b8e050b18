"""Classes by number and by name."""

import pytest

from pcb.errors import UserError
from pcb.generate.names import DIGITS, class_names, find_class

IMAGENET = class_names("imagenet", 1000)


def test_names_of_imagenet_are_torchvisions() -> None:
    assert IMAGENET is not None
    assert len(IMAGENET) == 1000
    assert (IMAGENET[0], IMAGENET[207], IMAGENET[999]) == (
        "tench",
        "golden retriever",
        "toilet tissue",
    )
    assert class_names("imagenet", 12) is None
    assert class_names(None, 1000) == IMAGENET


@pytest.mark.parametrize("wanted", [207, "207", "golden retriever", "Golden_Retriever "])
def test_a_class_is_found_by_number_and_name(wanted: int | str) -> None:
    assert find_class(wanted, IMAGENET, 1000) == 207


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("goldn retriver", r"no class 'goldn retriver'; nearest: golden retriever \(207\)"),
        ("xqzw", "no class 'xqzw'; names go from tench to toilet tissue"),
        (1000, "class 1000: expected a number from 0 to 999"),
        (-1, "class -1: expected a number from 0 to 999"),
    ],
)
def test_a_class_that_there_is_not_has_neighbors(wanted: int | str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_class(wanted, IMAGENET, 1000)


def test_a_name_of_two_classes_is_no_answer() -> None:
    with pytest.raises(UserError, match="several have this name; give a number: 0 and 2"):
        find_class("crane", ("crane", "heron", "Crane"), 3)


def test_digits_have_words() -> None:
    assert class_names("digits", 10) == DIGITS
    assert find_class("nine", DIGITS, 10) == 9
    with pytest.raises(UserError, match=r"nearest: seven \(7\)"):
        find_class("sevn", DIGITS, 10)
