"""Trees of ImageNet's form: which files there are, of which class, and what they hold."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pcb.data.tree import (
    class_names,
    read_file,
    training_files,
    tree_root,
    validation_files,
)
from pcb.errors import UserError
from tests.imagenet import jpeg, natural_image, wnid, write_tree, write_validation

CLASSES = [wnid(label) for label in range(3)]


def training(root: Path):
    with ThreadPoolExecutor(2) as pool:
        return training_files(root, class_names(root), pool)


def test_both_layouts_hold_the_same_images_in_the_same_order(tmp_path):
    tree = write_tree(tmp_path / "folders")
    write_tree(tmp_path / "tars", layout="tars")
    folders, tars = training(tmp_path / "folders"), training(tmp_path / "tars")
    every = sorted([*tree.images, *tree.refused])
    assert [file.path for file in folders] == every
    assert [file.path for file in tars] == [path.replace("/", ".tar/") for path in every]
    assert [file.label for file in folders] == [CLASSES.index(p.split("/")[0]) for p in every]
    for one, other in zip(folders, tars, strict=True):
        assert one.label == other.label
        data = (tmp_path / "folders" / one.path).read_bytes()
        assert read_file(tmp_path / "folders", one) == data
        assert read_file(tmp_path / "tars", other) == data


def test_what_is_no_image_is_left_out(tmp_path):
    tree = write_tree(tmp_path, oddities=False)
    (tmp_path / CLASSES[1] / "README.txt").write_text("an image per line")
    (tmp_path / CLASSES[1] / "._hidden.JPEG").write_bytes(b"a sidecar of another system")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "words.txt").touch()
    assert [file.path for file in training(tmp_path)] == list(tree.images)


@pytest.mark.parametrize("layout", ["folders", "devkit", "kaggle", "text"])
def test_validation_images_find_their_classes_in_every_layout(tmp_path, layout):
    tree = write_validation(tmp_path / "val", layout=layout)
    found = validation_files(tmp_path / "val", CLASSES)
    assert tuple(file.path for file in found) == tree.images
    assert tuple(file.label for file in found) == tree.labels
    assert len(set(tree.labels)) == 3
    assert list(tree.labels) != sorted(tree.labels) or layout == "folders"


def test_the_kit_may_stand_below_and_images_may_be_missing(tmp_path):
    tree = write_validation(tmp_path, layout="devkit")
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"):
        (tmp_path / name).rename(data / name)
    (tmp_path / tree.images[2]).unlink()
    found = {file.path: file.label for file in validation_files(tmp_path, CLASSES)}
    expected = dict(zip(tree.images, tree.labels, strict=True))
    del expected[tree.images[2]]
    assert found == expected


def test_a_text_may_give_names_of_classes(tmp_path):
    write_validation(tmp_path, layout="text")
    lines = (tmp_path / "val.txt").read_text().splitlines()
    words = [line.split() for line in lines]
    named = [f"val/{name} {CLASSES[int(label)]}\n" for name, label in words]
    (tmp_path / "val.txt").write_text("".join(named))
    labels = [file.label for file in validation_files(tmp_path, CLASSES)]
    assert labels == [int(label) for _, label in words]


def fails(message: str):
    return pytest.raises(UserError, match=message)


def test_a_tree_that_is_not_there_is_named(tmp_path):
    with fails(r"files.imagenet is not set; name the folder .* params.local.yaml"):
        tree_root(None, "files.imagenet")
    with fails("nowhere: no such folder; files.imagenet names it"):
        tree_root(str(tmp_path / "nowhere"), "files.imagenet")


def test_a_tree_of_another_form_is_refused(tmp_path):
    with fails("neither folders nor tars of classes"):
        class_names(tmp_path)
    write_tree(tmp_path, oddities=False)
    (tmp_path / wnid(7)).mkdir()
    with fails(f"{wnid(7)}: no images"):
        training(tmp_path)
    (tmp_path / f"{wnid(7)}.tar").write_bytes(b"")
    with fails(r"holds folders \(n.*\) and tars"):
        class_names(tmp_path)


def test_a_tar_that_is_none_is_named(tmp_path):
    write_tree(tmp_path, layout="tars")
    (tmp_path / f"{CLASSES[1]}.tar").write_bytes(b"\x1f\x8b not plain" * 99)
    with fails(f"{CLASSES[1]}.tar: not a readable, plain tar"):
        training(tmp_path)


def test_a_file_that_vanished_is_named(tmp_path):
    write_tree(tmp_path, oddities=False)
    file = training(tmp_path)[0]
    (tmp_path / file.path).unlink()
    with fails(f"{file.path}: cannot be read .No such file.*`data` again with --force"):
        read_file(tmp_path, file)


def test_validation_images_without_classes_are_refused(tmp_path):
    folder = tmp_path / "val"
    write_validation(folder, layout="text")
    (folder / "val.txt").unlink()
    with fails(r"no file says the classes .* LOC_val_solution.csv, .* meta.mat, or val.txt"):
        validation_files(folder, CLASSES)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    with fails("meta.mat: no such file; the class numbers"):
        validation_files(folder, CLASSES)
    (folder / "meta.mat").write_bytes(b"MATLAB?")
    with fails("meta.mat: not the development kit's table"):
        validation_files(folder, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ILSVRC2012_val_00000001.JPEG 0\n", "val.txt: says nothing of ILSVRC2012_val_00000002"),
        ("ILSVRC2012_val_00000001.JPEG 3\n", "00000001.JPEG is of class 3, which the training"),
        ("ILSVRC2012_val_00000001.JPEG\n", "expected a name and a class in each line"),
    ],
)
def test_a_wrong_list_of_classes_is_refused(tmp_path, text, message):
    write_validation(tmp_path, layout="text")
    (tmp_path / "val.txt").write_text(text)
    with fails(message):
        validation_files(tmp_path, CLASSES)


def test_a_wrong_kit_and_a_wrong_table_are_refused(tmp_path):
    write_validation(tmp_path / "kit", layout="devkit")
    truth = tmp_path / "kit" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("4\n" * 6)
    with fails("is of class n00001740, which the training images lack"):
        validation_files(tmp_path / "kit", CLASSES)
    truth.write_text("9\n" * 6)
    with fails("9 is no class number of meta.mat"):
        validation_files(tmp_path / "kit", CLASSES)
    write_validation(tmp_path / "kaggle", layout="kaggle")
    (tmp_path / "kaggle" / "LOC_val_solution.csv").write_text("id,class\n")
    with fails("expected the columns ImageId,PredictionString"):
        validation_files(tmp_path / "kaggle", CLASSES)


def test_validation_folders_must_be_classes_of_the_training(tmp_path):
    with fails("holds no images; expected folders of the training images' classes"):
        validation_files(tmp_path, CLASSES)
    (tmp_path / wnid(9)).mkdir()
    (tmp_path / wnid(9) / "a.JPEG").write_bytes(jpeg(natural_image(0, (8, 8))))
    with fails(f"holds {wnid(9)}; expected folders"):
        validation_files(tmp_path, CLASSES)


HUB = {"train": "{0}_{1}_{0}.JPEG", "val": "ILSVRC2012_val_{1:08d}_{0}.JPEG", "old": "{0}_{1}.JPEG"}


@pytest.mark.parametrize("kind", HUB)
def test_one_folder_whose_names_say_the_classes(tmp_path, kind):
    """As the hub's archives of training and validation images leave them."""
    names = [HUB[kind].format(wnid(k % 3), 100 - k) for k in range(7)]
    for name in names:
        (tmp_path / name).write_bytes(jpeg(natural_image(0, (40, 30))))
    found = training(tmp_path)
    assert class_names(tmp_path) == CLASSES
    assert sorted(file.path for file in found) == sorted(names)
    assert [file.label for file in found] == [0, 0, 0, 1, 1, 2, 2]
    assert all(HUB[kind].split("{1")[0].format(wnid(f.label)) in f.path for f in found)
    held_out = validation_files(tmp_path, CLASSES)
    assert {f.path: f.label for f in held_out} == {f.path: f.label for f in found}
    (tmp_path / "cat.JPEG").touch()
    with pytest.raises(UserError, match=r"cat\.JPEG: its name says no class"):
        class_names(tmp_path)
    with pytest.raises(UserError, match=r"says nothing of cat\.JPEG|no file says the classes"):
        validation_files(tmp_path, CLASSES)


def test_a_class_of_a_name_must_be_one_of_the_training(tmp_path):
    (tmp_path / "ILSVRC2012_val_00000001_n09999999.JPEG").touch()
    with pytest.raises(UserError, match="is of class n09999999, which the training images lack"):
        validation_files(tmp_path, CLASSES)


def test_links_to_folders_are_classes_and_folders_are_no_images(tmp_path):
    tree = write_tree(tmp_path / "real", oddities=False)
    (tmp_path / "links").mkdir()
    for name in CLASSES:
        (tmp_path / "links" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / CLASSES[0] / "folder.png").mkdir()
    assert [file.path for file in training(tmp_path / "links")] == list(tree.images)


def test_a_hidden_tar_or_a_folder_named_as_one_is_no_class(tmp_path):
    write_tree(tmp_path, oddities=False, layout="tars")
    (tmp_path / f"._{CLASSES[0]}.tar").write_bytes(b"a sidecar of another system")
    assert class_names(tmp_path) == CLASSES


@pytest.mark.parametrize("place", ["image", "class"])
def test_a_name_that_is_not_utf_8_is_one_line(tmp_path, place):
    write_tree(tmp_path, oddities=False)
    odd = os.fsdecode(b"caf\xe9")
    if place == "image":
        (tmp_path / CLASSES[0] / f"{odd}.JPEG").write_bytes(jpeg(natural_image(0, (40, 30))))
    else:
        (tmp_path / odd).mkdir()
    with pytest.raises(UserError, match=r"the file name 'caf\\udce9.*' is not UTF-8") as caught:
        training(tmp_path)
    str(caught.value).encode()


@pytest.mark.parametrize("layout", ["kaggle", "text"])
def test_lists_with_a_byte_order_mark_are_read_and_other_encodings_named(tmp_path, layout):
    tree = write_validation(tmp_path, layout=layout)
    path = tmp_path / {"kaggle": "LOC_val_solution.csv", "text": "val.txt"}[layout]
    text = path.read_text()
    path.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert tuple(file.label for file in validation_files(tmp_path, CLASSES)) == tree.labels
    path.write_text(text, encoding="utf-16")
    with pytest.raises(UserError, match="UTF-16 text; save it as UTF-8"):
        validation_files(tmp_path, CLASSES)
