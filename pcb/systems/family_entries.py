"""LlamaGen-L, PAR-L-4x, RandAR-L and NAR-L: published settings, rows and files.

Read from the public code and documents of FoundationVision/LlamaGen at ce98ec4,
YuqingWang1029/PAR at b1dd994, ziqipang/RandAR at d374a72 and ThisisBillhe/NAR at 225c1fb, and
from their papers.
"""

from pcb.systems.entry import Deviation, Row, System, Weights
from pcb.systems.guidance import Constant, Linear

_HUGGING_FACE = "https://huggingface.co"


def _large(side: int, **more: int) -> dict[str, object]:
    """Return the size L on a grid."""
    return {
        "width": 1024,
        "hidden_width": 2816,
        "heads": 16,
        "blocks": 24,
        "codes": 16384,
        "classes": 1000,
        "grid": (side, side),
        **more,
    }


_SAMPLING = (
    Deviation(
        what="classes",
        published="drawn at random for every image",
        here="balanced: every class equally often",
    ),
    Deviation(
        what="random numbers",
        published="one generator per process, seeded by its rank",
        here="those of the image's index",
    ),
    Deviation(
        what="precision",
        published="weights cast whole to bfloat16",
        here="as the settings say; float32 by default",
    ),
)
_FIRST_50K = Deviation(
    what="number of images",
    published="full batches on every process; the first 50,000 are scored",
    here="exactly 50,000 are drawn",
)
_SLOW_CODE = "PAR's paper, table 2: one A100, one image, 384 px, not compiled"

LLAMAGEN = System(
    name="LlamaGen-L",
    kind="LlamaGen",
    paper="2406.06525",
    description=_large(24),
    parameters=342_910_976,
    tensors=172,
    image_size=384,
    steps=576,
    order="raster",
    blocks="one token",
    guidance=Constant(2.0),
    weights=Weights(
        url=f"{_HUGGING_FACE}/FoundationVision/LlamaGen/resolve/main/c2i_L_384.pt",
        path="llamagen/c2i_L_384.pt",
    ),
    release="weights, at 384 px (this row) and at 256 px",
    license="MIT",
    table1=Row(
        of="its paper, tables 6 and 9: 384 px, scale 2.0",
        fid=3.07,
        inception_score=256.1,
        precision=0.83,
        recall=0.52,
        seconds=12.58,
        timed=_SLOW_CODE,
    ),
    rows=(
        Row(
            of="its paper, table 9: 384 px, guidance off",
            fid=19.070,
            inception_score=64.349,
            precision=0.607,
            recall=0.670,
        ),
        Row(
            of="its paper, table 9: 384 px, scale 1.5",
            fid=4.743,
            inception_score=165.381,
            precision=0.758,
            recall=0.596,
        ),
        Row(
            of="its paper, table 9: 384 px, scale 1.75",
            fid=3.151,
            inception_score=214.152,
            precision=0.803,
            recall=0.552,
        ),
        Row(
            of="its paper, table 9: 384 px, scale 2.25",
            fid=3.620,
            inception_score=291.695,
            precision=0.854,
            recall=0.493,
        ),
    ),
    deviations=(*_SAMPLING, _FIRST_50K),
    code_differs=(
        "the paper's attention dropout is a dropout after the attention's output projection",
    ),
)

PAR = System(
    name="PAR-L-4x",
    kind="PAR",
    paper="2412.15119",
    description=_large(24, parallel_tokens=4),
    parameters=342_914_048,
    tensors=173,
    image_size=384,
    steps=147,
    order="the same cell of four regions, cells of a region in raster order",
    blocks="four times one token, then four",
    guidance=Constant(1.6),
    release="no weights of this size; XL-4x, XXL-4x, 3B-4x and 3B-16x only",
    license="none stated",
    table1=Row(
        of="its paper",
        fid=3.76,
        inception_score=218.9,
        precision=0.84,
        recall=0.50,
        seconds=3.38,
        timed=_SLOW_CODE,
        weights_released=False,
    ),
    rows=(
        Row(
            of="NAR's paper: 256 px, 67 steps",
            fid=4.32,
            inception_score=189.4,
            precision=0.87,
            recall=0.43,
            weights_released=False,
        ),
    ),
    deviations=(*_SAMPLING, _FIRST_50K),
    code_differs=(
        "the paper trains with a cosine decay and warm-up, the code at a constant rate",
        "the paper's attention dropout is a dropout after the attention's output projection",
    ),
)

RANDAR = System(
    name="RandAR-L",
    kind="RandAR",
    paper="2412.01827",
    description=_large(16),
    parameters=342_912_000,
    tensors=173,
    image_size=256,
    steps=88,
    schedule_steps=88,
    order="random, one per image",
    blocks="one token to five, along a cosine",
    guidance=Linear(first=1.0, last=3.4, count="before block"),
    weights=Weights(
        url=f"{_HUGGING_FACE}/ziqipang/RandAR/resolve/main/"
        "randar_0.3b_llamagen_360k_bs_1024_lr_0.0004.safetensors",
        path="randar/randar_0.3b_llamagen_360k_bs_1024_lr_0.0004.safetensors",
    ),
    release="weights of a later training; those of the paper's row were not released",
    license="MIT",
    table1=Row(
        of="its paper; guidance not published",
        fid=2.55,
        inception_score=288.8,
        precision=0.81,
        recall=0.58,
        seconds=1.97,
        timed="LPD's paper, table 1: one A100, one image, bfloat16",
        weights_released=False,
    ),
    rows=(
        Row(
            of="its repository: the released weights, guidance from 1 to 3.4",
            fid=2.65,
            inception_score=249,
            precision=0.82,
            recall=0.56,
        ),
    ),
    deviations=(
        *_SAMPLING,
        Deviation(
            what="orders",
            published="drawn by the process's generator",
            here="those of the image's index",
        ),
        Deviation(
            what="number of images",
            published="50,000 rounded up to full batches, all of them scored",
            here="exactly 50,000 are drawn",
        ),
        Deviation(
            what="guidance of the paper's row",
            published="not published",
            here="that of the released weights, from 1 to 3.4",
        ),
    ),
    code_differs=(
        "the paper trains on ten crops at a constant rate with linear decay, the release on center "
        "crops and flips along a cosine",
    ),
)

NAR = System(
    name="NAR-L",
    kind="NAR",
    paper="2503.10696",
    description=_large(16),
    parameters=372_536_320,
    tensors=181,
    image_size=256,
    steps=31,
    order="anti-diagonals",
    blocks="one diagonal",
    guidance=Constant(2.0),
    release="weights, in the collection "
    f"{_HUGGING_FACE}/collections/chenfeng1271/nar-67d13fa93fe913b2e187ee1f, whose files the "
    "repository does not name",
    license="MIT",
    table1=Row(
        of="its paper, table 1",
        fid=3.06,
        inception_score=263.9,
        precision=0.81,
        recall=0.53,
        seconds=1.01,
        timed="source not known",
    ),
    deviations=(
        *_SAMPLING,
        _FIRST_50K,
        Deviation(
            what="top-k and top-p",
            published="not stated; the script's defaults keep all codes",
            here="all codes are kept",
        ),
        Deviation(
            what="loading",
            published="a file without the second head loads, and draws with a random one",
            here="refused",
        ),
    ),
    code_differs=("the paper trains each head with a loss of its own, the code the mixed logits",),
)

SYSTEMS = (LLAMAGEN, PAR, RANDAR, NAR)
