"""`pcb evaluate` and `pcb verify-metrics`, whole, on tiny files of the real ones' form."""

import json
import re
import shutil

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

import pcb.metrics.evaluate as evaluation
import pcb.metrics.golden as golden
import pcb.metrics.parts as parts
from pcb.cli.main import main
from pcb.errors import UserError
from pcb.metrics.evaluate import protocol
from pcb.metrics.features import Layers
from pcb.metrics.golden import PUBLISHED, compare, comparison_lines
from tests.inception import random_images
from tests.tasks import ROOT

COUNT = 4


@pytest.fixture(autouse=True)
def small(folder, monkeypatch):
    """A protocol for a handful of images, in an empty folder."""
    few = msgspec.structs.replace(evaluation.PROTOCOL, kid_subsets=2, bootstrap=2)
    monkeypatch.setattr(evaluation, "PROTOCOL", few)
    monkeypatch.setattr(evaluation, "SPLIT_IMAGES", 2)


def command(samples, inception, reference, *more, count=COUNT):
    paths = ["--images", samples, "--inception", inception, "--reference", reference]
    return main([*map(str, ("evaluate", *paths, "--count", count)), *more])


def one_line(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_folder_of_images_has_all_scores(folder, inception, adm_reference, capsys):
    pixels = random_images(COUNT)
    (folder / "images").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{number:06d}.png")
    assert command("images", inception, adm_reference, "--json", "scores.json") == 0
    found = json.loads((folder / "scores.json").read_text())
    printed = dict(re.findall(r"^(\w+) +(\S+)$", capsys.readouterr().out, re.MULTILINE))
    scores = {"fid", "fid_std", "sfid", "is", "is_std", "precision", "recall", "kid", "kid_std"}
    for name in scores:
        assert float(printed[name]) == pytest.approx(found[name], rel=1e-5), name
    assert (found["images"], found["settings"]["splits"]) == (COUNT, 2)
    assert len(found["reference"]["sha256"]) == 64


class Extractor:
    """Sees little of an image, counts, and is interrupted once it has seen `limit` images."""

    seen, limit = 0, None

    def __call__(self, pixels):
        if self.limit is not None and self.seen >= self.limit:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        pool = pixels.float().mean((2, 3)) / 255
        return Layers(pool, pool * 3, pixels[:, 0, 0, :5] / 255)


@pytest.fixture
def score(folder, monkeypatch):
    """Return a function that scores images: what `evaluate` says, and how many it saw."""
    (folder / "inception.pth").write_bytes(b"weights")
    random = np.random.default_rng(0)
    arrays = {"arr_0": random_images(8, seed=1)}
    for suffix, width in (("", 3), ("_s", 5)):
        features = random.random((50, width))
        arrays |= {f"mu{suffix}": features.mean(0), f"sigma{suffix}": np.cov(features.T)}
    np.savez(folder / "reference.npz", **arrays)
    monkeypatch.setattr(evaluation, "BATCH", 2)
    monkeypatch.setattr(parts, "PART_IMAGES", 4)

    def run(samples, limit=None, count=10):
        extractor = Extractor()
        extractor.limit = limit
        monkeypatch.setattr(evaluation, "load_inception", lambda *arguments: extractor)
        arguments = ["evaluate", "--images", samples, "--inception", "inception.pth"]
        arguments += ["--reference", "reference.npz", "--count", str(count)]
        status = main([*arguments, "--json", "scores.json"])
        assert status == (130 if limit is not None else 0)
        found = None if status else json.loads((folder / "scores.json").read_text())
        return found, extractor.seen

    return run


def test_a_folder_and_a_file_of_the_same_images_score_the_same(folder, score, capsys, monkeypatch):
    """A folder by `evaluate`, a file by `verify-metrics`, which says how far ADM's scores are."""
    pixels = random_images(COUNT)
    (folder / "images").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{number:06d}.png")
    found, _ = score("images", count=COUNT)
    capsys.readouterr()
    shutil.copy(ROOT / "params.yaml", folder)
    np.savez(folder / "samples.npz", pixels, np.array([0, 1, 0, 1]))
    own = {
        "adm-samples": "samples.npz",
        "adm-reference": "reference.npz",
        "inception": "inception.pth",
    }
    (folder / "params.local.yaml").write_text(yaml.safe_dump({"files": {"own": own}}))
    monkeypatch.setattr(golden, "IMAGES", COUNT)
    assert main(["verify-metrics"]) == 1
    out, error = capsys.readouterr()
    assert "0 of 5 measured scores are within 1%" in out, error
    line = r"^(\w+) +(\S+) +(\S+) \(.*%\) .* out of tolerance$"
    beside = {name: values for name, *values in re.findall(line, out, re.MULTILINE)}
    assert beside.keys() == PUBLISHED.keys()
    for name, values in beside.items():
        expected = [PUBLISHED[name], found[name]]
        assert [float(value) for value in values] == pytest.approx(expected, rel=1e-4), name


def kept(folder):
    return sorted(path.name for path in (folder / ".pcb" / "evaluate").glob("*/*"))


def test_an_interrupted_evaluation_goes_on_and_the_reference_is_seen_once(folder, score, capsys):
    for seed, name in enumerate(("one.npz", "other.npz")):
        np.savez(folder / name, random_images(10, seed=seed))
    expected, seen = score("one.npz")
    assert seen == 18
    assert kept(folder) == ["00000.npz", "00001.npz"], "the reference's"
    other, seen = score("other.npz")
    assert seen == 10
    assert other["fid"] != expected["fid"]
    shutil.rmtree(folder / ".pcb")
    # In the reference's second part, then in the samples' second one.
    for limit, whole in ((6, 1), (10, 3)):
        assert score("one.npz", limit) == (None, limit)
        assert len(kept(folder)) == whole
        assert "interrupted; the same command resumes" in capsys.readouterr().err
    found, seen = score("one.npz")
    assert seen == 6
    assert found == expected
    assert len(kept(folder)) == 2


def test_the_reference_may_be_scored_against_itself(folder, score):
    assert score("reference.npz", count=8)[1] == 8
    assert score("reference.npz", count=8)[1] == 0


def test_scores_are_compared_relatively_and_torch_fidelitys_stand_beside():
    found = {name: value * 1.004 for name, value in PUBLISHED.items()}
    found["fid"] = PUBLISHED["fid"] * 0.98
    found["torch_fidelity_is"] = PUBLISHED["is"] * 1.002
    comparisons = compare(found, PUBLISHED)
    assert [one.name for one in comparisons if not one.passes] == ["fid"]
    lines = comparison_lines(comparisons)
    assert re.search(r"fid +3\.9426 +3\.8637 \(-2\.00%\) +-  out of tolerance", lines[1])
    assert re.search(r"is +215\.84 +216\.7 \(\+0\.40%\) +216\.27 \(\+0\.20%\)", lines[3])
    assert lines[-1] == "4 of 5 measured scores are within 1%"


@pytest.mark.parametrize("found", [0, COUNT - 1, COUNT + 1])
def test_another_number_of_images_than_named_is_an_error(
    folder, inception, adm_reference, capsys, found
):
    np.savez(folder / "images.npz", random_images(COUNT + 1)[:found])
    assert command("images.npz", inception, adm_reference) == 1
    line = one_line(capsys)
    assert f"images.npz: holds {found} images where {COUNT} are expected" in line
    assert f"--count {found}" in line


def test_images_of_another_size_than_the_references_are_an_error(
    folder, inception, adm_reference, capsys
):
    np.savez(folder / "images.npz", random_images(COUNT, size=8))
    assert command("images.npz", inception, adm_reference) == 1
    assert "images of 8x8 pixels, but reference.npz has 16x16" in one_line(capsys)


def test_files_that_were_not_fetched_are_asked_for(folder, adm_reference, capsys):
    shutil.copy(ROOT / "params.yaml", folder)
    np.savez(folder / "images.npz", random_images(COUNT))
    assert main(["evaluate", "--images", "images.npz", "--reference", str(adm_reference)]) == 1
    assert "pcb fetch inception" in one_line(capsys)


def test_sorted_labels_are_warned_of_before_anything_is_computed(
    folder, inception, adm_reference, capsys, monkeypatch
):
    labels = np.repeat(np.arange(4), 10)
    np.savez(folder / "images.npz", random_images(40), labels)
    monkeypatch.setattr(evaluation, "SPLIT_IMAGES", 10)
    monkeypatch.setattr(evaluation, "load_inception", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("images.npz", inception, adm_reference, count=40)
    assert "the order of the labels looks sorted by class" in one_line(capsys)


@pytest.mark.parametrize(("count", "splits"), [(50_000, 10), (10_000, 2), (5000, 1), (4999, 1)])
def test_splits_are_of_the_protocols_size(monkeypatch, count, splits):
    monkeypatch.setattr(evaluation, "SPLIT_IMAGES", 5000)
    found = protocol(count, 10_000, torch_fidelity=False)
    assert (found.splits, found.kid_subset_size) == (splits, 1000)


@pytest.mark.parametrize(
    ("count", "message"),
    [(50_048, "no multiple of 5000"), (3, "3 images are too few"), (0, "0 images are too few")],
)
def test_a_number_that_the_protocol_cannot_take_is_refused(monkeypatch, count, message):
    monkeypatch.setattr(evaluation, "SPLIT_IMAGES", 5000)
    with pytest.raises(UserError, match=message):
        protocol(count, 10_000, torch_fidelity=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu_s": None, "sigma_s": None}, "its statistics have no mu_s and sigma_s"),
        ({"sigma": None}, "but not mu and sigma"),
        ({"mu": lambda x: x * np.nan}, "not finite .* in mu;"),
        ({"sigma_s": lambda x: np.where(x > 0, np.inf, x)}, "not finite .* in sigma_s;"),
        ({"sigma": lambda x: np.triu(x)}, "sigma is no covariance"),
        ({"sigma": lambda x: -x}, "sigma is no covariance"),
        ({"sigma_s": lambda x: x[:3]}, r"shape \[3, 5\] beside a mean of shape \[5\]"),
        ({"mu": lambda x: x[None]}, r"mean of shape \[1, 3\]"),
        ({"mu": lambda x: x.astype(str)}, "where floating numbers are expected"),
    ],
)
def test_the_references_statistics_are_looked_at_before_anything_is_computed(
    folder, score, monkeypatch, capsys, change, message
):
    np.savez(folder / "images.npz", random_images(10))
    with np.load(folder / "reference.npz") as file:
        arrays = dict(file)
    for name, edit in change.items():
        array = arrays.pop(name)
        if edit is not None:
            arrays[name] = edit(array)
    np.savez(folder / "reference.npz", **arrays)
    monkeypatch.setattr(evaluation, "load_inception", lambda *arguments: 1 / 0)
    arguments = ["evaluate", "--images", "images.npz", "--inception", "inception.pth"]
    assert main([*arguments, "--reference", "reference.npz", "--count", "10"]) == 1
    assert re.search(rf"reference\.npz: .*{message}", one_line(capsys))
