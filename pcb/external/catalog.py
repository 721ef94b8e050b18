"""External files that `pcb fetch` knows: the paper's, ADM's (method sections 7 and 9), others'.

Data alone: where a file is published, where it stands below `files.folder`, what it must hold.
No torch, no files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pcb.config import Preset
from pcb.config.files import system_file, system_tokenizer_file
from pcb.published.system import Weights
from pcb.published.systems import catalog

_HUGGING_FACE = "https://huggingface.co"
_RELEASE = f"{_HUGGING_FACE}/deigen/checkerboardgen/resolve/main/pretrained_models"
_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256"
_FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
RELEASED = Path("checkerboardgen")
"""Below `files.folder`: the authors' released layout, as `pcb parity` takes it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published file."""

    name: str
    what: str
    url: str
    path: Path
    """Where it stands below `files.folder`."""
    bytes: int | None = None
    """None where nobody has published the size."""
    sha256: str | None = None
    """As it is published: whole, its first digits, or None."""
    direct: bool = True
    """Whether the address is the file's; else it is that of a page that leads to it."""


def _released(name: str, what: str, path: str, sha256: str) -> Source:
    """Return a file of the authors' release."""
    return Source(
        name=name, what=what, url=f"{_RELEASE}/{path}", path=RELEASED / path, sha256=sha256
    )


_SOURCES = (
    Source(
        name="inception",
        what="Inception weights of torch-fidelity",
        url=f"{_FIDELITY}/weights-inception-2015-12-05-6726825d.pth",
        path=Path("inception/weights-inception-2015-12-05-6726825d.pth"),
        # The file's name gives the first digits.
        sha256="6726825d",
    ),
    Source(
        name="adm-reference",
        what="ADM's reference images and statistics",
        url=f"{_ADM}/VIRTUAL_imagenet256_labeled.npz",
        path=Path("adm/VIRTUAL_imagenet256_labeled.npz"),
    ),
    Source(
        name="adm-samples",
        what="ADM's own samples, with published scores",
        url=f"{_ADM}/admnet_guided_upsampled_imagenet256.npz",
        path=Path("adm/admnet_guided_upsampled_imagenet256.npz"),
    ),
    Source(
        name="llamagen",
        what="LlamaGen's tokenizer",
        url=f"{_HUGGING_FACE}/FoundationVision/LlamaGen/resolve/main/vq_ds16_c2i.pt",
        path=Path("llamagen/vq_ds16_c2i.pt"),
        bytes=287_920_306,
        sha256="109aa8afb2cf3761eec23cdc8644154cb498f5ab7eef2a35264d25e5e0499f7d",
    ),
    _released(
        "autoenc",
        "the authors' tokenizer",
        "autoenc/checkpoint.pth",
        "7503e2afd945546a0ba77cbb863227e8e5b1e1498190725c9358c6fed5720afa",
    ),
    _released(
        "autoenc-config",
        "settings of the authors' tokenizer",
        "autoenc/autoencoder_config.yaml",
        "1d4c1cefa2a2edb55f1260645601e235c98ee41e4b51785c1dbcdabde4a60d14",
    ),
    _released(
        "checkerboard-L-2x",
        "the authors' model of size L, ratio 2",
        "checkerboard-L-2x/checkpoint-last.pth",
        "d0b1c226a3b6bc84827855d2228bc21642774d99145d5978636f2a1e3553f297",
    ),
    _released(
        "checkerboard-L-2x-config",
        "settings of the authors' model of size L, ratio 2",
        "checkerboard-L-2x/config.yaml",
        "8719010494d7a909f36831a600cbda45c8223377600aa493abb28d3caba1f32b",
    ),
    _released(
        "checkerboard-L-4x",
        "the authors' model of size L, ratio 4",
        "checkerboard-L-4x/checkpoint-last.pth",
        "e359552cb2b1d7ace912d0aaac2450e80680e2635b9cb537442aba3823692fa9",
    ),
    _released(
        "checkerboard-L-4x-config",
        "settings of the authors' model of size L, ratio 4",
        "checkerboard-L-4x/config.yaml",
        "5cc319d36b881d9c6f492e4ded345e0c5abd1ff6e5648424e55ba86f4ba2f30a",
    ),
)


def _of_system(name: str, what: str, file: Weights) -> Source:
    """Return a file of another system's release."""
    return Source(
        name=name,
        what=what,
        url=file.url,
        path=Path(file.path),
        bytes=file.bytes,
        sha256=file.sha256,
        direct=file.direct,
    )


def _system_sources() -> Iterator[Source]:
    for name, system in catalog().items():
        if system.weights is not None:
            yield _of_system(system_file(name), f"the weights of {name}", system.weights)
        if system.tokenizer is not None:
            own = system_tokenizer_file(name)
            yield _of_system(own, f"the tokenizer of {name}", system.tokenizer)


CATALOG = {source.name: source for source in (*_SOURCES, *_system_sources())}
UNRELEASED = {
    name: f"{system.release}; random weights run it, for time alone"
    for name, system in catalog().items()
    if system.weights is None or not system.table1.weights_released
}
"""Systems of which the weights of Table 1's row were not released: name -> what was."""


def config_of(name: str) -> str:
    """Return the name of the settings file that goes with released weights."""
    return f"{name}-config"


def _needed_by_systems(preset: Preset) -> Iterator[str]:
    for run in preset.systems.values():
        if run.weights == "released":
            yield system_file(run.system)
            own = run.published.tokenizer is not None
            yield system_tokenizer_file(run.system) if own else "llamagen"


def needed_files(preset: Preset) -> tuple[str, ...]:
    """Return the names of the external files that a preset reads, in the catalog's order."""
    released = [run.released for run in preset.models.values() if run.released is not None]
    if preset.tokenizer.source == "released":
        released.append("autoenc")
    needed = {*released, *map(config_of, released), *_needed_by_systems(preset)}
    if preset.metrics.extractor == "inception":
        needed |= {"inception", "adm-reference"}
    if preset.tokenizer.requantization is not None:
        needed |= (
            {"llamagen", "inception"} if preset.tokenizer.requantization.rfid else {"llamagen"}
        )
    return tuple(name for name in CATALOG if name in needed)
