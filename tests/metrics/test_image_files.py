"""External images: what is read, in which order, and what is refused in one line."""

import os
import zlib

import numpy as np
import pytest
from PIL import Image

import pcb.metrics.image_files as image_files
from pcb.errors import UserError
from pcb.metrics.image_files import open_images
from tests.inception import random_images

PIXELS = random_images(7)


@pytest.fixture(params=["stored", "compressed", "folder"])
def path(request, tmp_path):
    """The same seven images in each form."""
    if request.param == "folder":
        for number, pixels in enumerate(PIXELS):
            folder = tmp_path / "images" / ("a" if number < 3 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path / "images"
    save = np.savez if request.param == "stored" else np.savez_compressed
    save(tmp_path / "images.npz", PIXELS, np.arange(7) % 2)
    return tmp_path / "images.npz"


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_images_come_in_order_in_batches_as_often_as_asked_for(path, size):
    images = open_images(path)
    assert (images.count, images.size) == (7, (16, 16))
    for _ in range(2):
        batches = list(images.batches(size))
        assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate(batches), PIXELS)


@pytest.mark.parametrize("start", [0, 1, 3, 6, 7])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_images_from_a_number_on_are_the_tail_of_all(path, size, start, monkeypatch):
    images, read, decoded = open_images(path), image_files._read_png, []

    def count(path):
        decoded.append(path)
        return read(path)

    monkeypatch.setattr(image_files, "_read_png", count)
    monkeypatch.setattr(image_files, "_SKIPPED", 1000)
    batches = list(images.batches(size, start))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate([PIXELS[:0], *batches]), PIXELS[start:])
    assert len(decoded) == (7 - start if path.is_dir() else 0)


def test_damage_is_found_behind_what_is_skipped(tmp_path):
    """And in it: the checksum is that of the whole array."""
    path = tmp_path / "images.npz"
    np.savez(path, PIXELS)
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"images\.npz: damaged"):
        list(open_images(path).batches(2, 5))


def test_identity_changes_with_the_images_and_only_with_them(path, tmp_path):
    before = open_images(path).identity
    assert open_images(path).identity == before
    moved = path.rename(tmp_path / f"moved{path.suffix}")
    assert open_images(moved).identity == before
    if moved.is_dir():
        file = next(moved.rglob("3.png"))
        file.rename(file.with_name("30.png"))
        renamed = open_images(moved).identity
        os.utime(file.with_name("30.png"), ns=(0, 0))
        assert len({before, renamed, open_images(moved).identity}) == 3
    else:
        np.savez(moved, PIXELS[::-1])
        assert open_images(moved).identity != before


def test_labels_are_those_of_the_file(path):
    labels = open_images(path).labels
    assert labels is None if path.is_dir() else list(labels) == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS}, "no array `arr_0` in it"),
        ({"arr_0": PIXELS.astype(np.float32)}, r"arr_0 is float32 \[7, 16, 16, 3\] where uint8"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, r"arr_0 is uint8 \[7, 3, 16, 16\]"),
        ({"arr_0": np.asfortranarray(PIXELS)}, "arr_0 is uint8"),
        ({"arr_0": PIXELS, "arr_1": np.arange(6)}, r"arr_1 has shape \[6\], expected \[7\]"),
        ({"arr_0": np.array([{}])}, "arr_0 is object"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        open_images(tmp_path / "images.npz")
    assert str(tmp_path / "images.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "images.npz"
    with pytest.raises(UserError, match="no such file or folder"):
        open_images(path)
    np.savez(path, PIXELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"images\.npz: not a readable \.npz"):
        open_images(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(UserError, match=r"images\.npz: damaged .* fetch or make it again"):
        list(open_images(path).batches(3))
    (tmp_path / "images.txt").write_text("")
    with pytest.raises(UserError, match="neither a folder of PNG files nor an"):
        open_images(tmp_path / "images.txt")


def test_png_files_of_another_form_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no \.png file in it"):
        open_images(tmp_path)
    for number in range(3):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    last = tmp_path / "3.png"
    for image, message in (
        (Image.fromarray(PIXELS[3]).convert("L"), r"3\.png: mode L where 8-bit RGB is expected"),
        (Image.fromarray(PIXELS[3, :8]), r"3\.png: 16x8 pixels, but 0\.png has 16x16"),
    ):
        image.save(last)
        with pytest.raises(UserError, match=message):
            list(open_images(tmp_path).batches(4))
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(UserError, match=r"3\.png: not a readable image"):
        list(open_images(tmp_path).batches(4))


def put(path, pixels=PIXELS[0]):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def test_every_case_of_letters_counts_and_nothing_hidden_and_links_are_followed(tmp_path):
    folder = tmp_path / "images"
    for name in ("a/0.png", "a/1.PNG", "b/2.Png", "x.png/3.png"):
        put(folder / name)
    for name in (".hidden/4.png", "a/._1.PNG", ".5.png", "a/.thumbnails/6.png"):
        put(folder / name)
    put(tmp_path / "elsewhere" / "7.png")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "d").symlink_to(tmp_path / "elsewhere")
    (folder / "8.png").symlink_to(tmp_path / "elsewhere" / "7.png")
    (folder / "a" / "round").symlink_to(folder)
    (folder / "words.txt").write_text("")
    images = open_images(folder)
    assert images.count == 7
    assert images.left_out == "1 files that are no .png"
    assert len(np.concatenate(list(images.batches(3)))) == 7


def header(path, change):
    """Change the header of a PNG, and make its checksum right again."""
    data = bytearray(path.read_bytes())
    change(data)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def huge(data):
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2


def flat(data):
    data[16:20] = bytes(4)


def deep(data):
    data[24] = 16


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "no PNG, or cut short"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec"), "Git-LFS"),
        (lambda path: Image.fromarray(PIXELS[0]).save(path, format="JPEG"), "a JPEG"),
        (lambda path: header(path, huge), r"2147483647x2147483647 pixels, but 0\.png has 16x16"),
        (lambda path: header(path, flat), "its header is damaged"),
        (lambda path: header(path, deep), "mode RGB of 16 bits per channel where 8-bit RGB"),
        (lambda path: path.unlink() or path.symlink_to("nowhere"), "no file, or a link to none"),
        (lambda path: path.unlink() or os.mkfifo(path), "no file"),
        (
            lambda path: Image.fromarray(PIXELS[0]).convert("RGBA").save(path, format="PNG"),
            "mode RGBA where 8-bit RGB",
        ),
    ],
)
def test_the_last_header_is_looked_at_before_any_image_is_decoded(tmp_path, spoil, message):
    for number in range(3):
        put(tmp_path / f"{number}.png")
    spoil(tmp_path / "2.png")
    with pytest.raises(UserError, match=rf"2\.png: .*{message}") as caught:
        open_images(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_huge_first_header_is_one_line(tmp_path):
    header(put(tmp_path / "0.png"), huge)
    images = open_images(tmp_path)
    with pytest.raises(UserError, match=r"0\.png: not a readable image"):
        list(images.batches(1))


def member(path, offset_in_entry, value):
    """Change a field of the first member, in its own header and in the table of contents."""
    data = bytearray(path.read_bytes())
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = data.index(signature) + offset_in_entry + shift
        data[place : place + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: member(path, 8, 9), "arr_0.npy in it is compressed by Deflate64"),
        (lambda path: member(path, 8, 77), "arr_0.npy in it is compressed by method 77"),
        (lambda path: member(path, 6, 1), "arr_0.npy in it is encrypted"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), "a web page"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: np.savez(path, np.asfortranarray(PIXELS)), "column by column"),
    ],
)
def test_archives_that_cannot_be_read_say_why(tmp_path, spoil, message):
    path = tmp_path / "images.npz"
    np.savez(path, PIXELS)
    spoil(path)
    with pytest.raises(UserError, match=rf"images\.npz: .*{message}") as caught:
        open_images(path)
    assert "\n" not in str(caught.value)
