"""Files of the outside ones' form, written once."""

from pathlib import Path

import pytest

from tests.inception import random_images, write_adm_reference, write_inception


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return random weights of Inception in torch-fidelity's file format."""
    return write_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(scope="session")
def adm_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reference file in ADM's form, with four images of 16x16 pixels."""
    path = tmp_path_factory.mktemp("adm") / "reference.npz"
    return write_adm_reference(path, random_images(4, seed=1))
