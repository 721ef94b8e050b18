"""ARPG-L, LPD-L and VAR-d16: published settings, rows and files.

Read from the public code and documents of hp-l33/ARPG at 1a1758c (first release: cade9a7),
mit-han-lab/lpd at f447b83 and FoundationVision/VAR at 78b9539. Sizes and hashes of files are those
that their pages on the hub state.
"""

from pcb.systems.entry import Deviation, Row, System, Weights
from pcb.systems.guidance import Linear, Ramp

_HUGGING_FACE = "https://huggingface.co"
_VAR = f"{_HUGGING_FACE}/FoundationVision/var/resolve/main"
_LATENCY = "probably LPD's paper, table 1: one A100, one image, bfloat16, mean of 500 runs"

_RANDOM_NUMBERS = Deviation(
    what="random numbers",
    published="one generator per process, seeded by its rank",
    here="those of the image's index",
)

ARPG = System(
    name="ARPG-L",
    kind="ARPG",
    paper="2503.10568",
    description={
        "width": 1024,
        "hidden_width": 2816,
        "heads": 16,
        "self_blocks": 12,
        "cross_blocks": 12,
        "codes": 16384,
        "classes": 1000,
        "grid": (16, 16),
        "curve": "first release",
    },
    parameters=319_845_376,
    tensors=198,
    image_size=256,
    steps=32,
    schedule_steps=32,
    order="random, one per image",
    blocks="one token to 13, along a cosine",
    guidance=Linear(last=5.5, count="next"),
    weights=Weights(
        url=f"{_HUGGING_FACE}/hp-l33/ARPG/resolve/main/arpg_300m.pt",
        path="arpg/arpg_300m.pt",
        sha256="c0f32ba04bea00bd1e424d3523b73b2d08d9f7ab3957c48fcb5e648e7ba6d83c",
    ),
    release="weights; whether they give the row of 2.30 is not known",
    license="MIT",
    table1=Row(
        of="a later version of its paper; schedule and guidance not known",
        fid=2.30,
        inception_score=297.7,
        precision=0.82,
        recall=0.56,
        seconds=0.58,
        timed=_LATENCY,
    ),
    rows=(
        Row(
            of="first version of its paper: 32 steps along a cosine, guidance to 5.5",
            fid=2.44,
            inception_score=291.7,
            precision=0.82,
            recall=0.55,
        ),
        Row(
            of="first version of its paper: 64 steps along a cosine, guidance to 4.5",
            fid=2.44,
            inception_score=287.1,
            precision=0.82,
            recall=0.55,
        ),
        Row(of="its repository: 64 steps along an arccosine, guidance to 5.0", fid=2.38),
    ),
    deviations=(
        _RANDOM_NUMBERS,
        Deviation(
            what="orders",
            published="one per call, shared by the images of a batch",
            here="those of the image's index",
        ),
        Deviation(
            what="precision",
            published="weights cast whole to bfloat16",
            here="as the settings say; float32 by default",
        ),
        Deviation(
            what="schedule and guidance of the paper's row",
            published="not known",
            here="those of the first release, for 32 steps",
        ),
    ),
    code_differs=(
        "training is causal, in decoding the tokens of a block see each other",
        "the code's default schedule is an arccosine, the first version of the paper has a cosine",
    ),
)

LPD = System(
    name="LPD-L",
    kind="LPD",
    paper="2507.01957",
    description={
        "width": 1024,
        "hidden_width": 4096,
        "heads": 16,
        "blocks": 24,
        "codes": 16384,
        "classes": 1000,
        "grid": (16, 16),
    },
    parameters=337_157_120,
    tensors=298,
    image_size=256,
    steps=20,
    schedule_steps=20,
    order="near what is drawn, apart within a block; one per image",
    blocks="one token to 20, by a table",
    guidance=Linear(last=4.8, count="before token"),
    weights=Weights(
        url=f"{_HUGGING_FACE}/mit-han-lab/lpd_l_256/resolve/main/lpd_l_256.pth",
        path="lpd/lpd_l_256.pth",
    ),
    release="weights, and 60,000 orders",
    license="MIT; of the weights not stated",
    table1=Row(
        of="its paper: 20 steps, guidance to 4.8; precision and recall are the paper's alone",
        fid=2.40,
        inception_score=284.5,
        precision=0.81,
        recall=0.57,
        seconds=0.28,
        timed="its paper, table 1: one A100, one image, bfloat16, mean of 500 runs",
    ),
    rows=(
        Row(
            of="its repository: 32 steps, guidance to 5.4",
            fid=2.29,
            inception_score=282.7,
            seconds=0.46,
            timed="its paper: one A100, one image, bfloat16",
        ),
    ),
    deviations=(
        _RANDOM_NUMBERS,
        Deviation(
            what="orders",
            published="60,000 made once without a seed, the n-th for image n",
            here="made from the seed and the image's index by the same rule",
        ),
        Deviation(
            what="precision",
            published="bfloat16 autocast, the tokenizer too",
            here="as the settings say; float32 by default",
        ),
        Deviation(
            what="classes",
            published="balanced, images sorted by class",
            here="balanced, every class once before one comes again",
        ),
        Deviation(
            what="pixels", published="rounded to the nearest of 0..255", here="127.5 x + 128, cut"
        ),
        Deviation(
            what="scores",
            published="a fork of torch-fidelity, FID against statistics of its own file",
            here="ADM's evaluator and reference",
        ),
    ),
)

VAR = System(
    name="VAR-d16",
    kind="VAR",
    paper="2404.02905",
    description={
        "width": 1024,
        "hidden_width": 4096,
        "heads": 16,
        "blocks": 16,
        "codes": 4096,
        "code_width": 32,
        "classes": 1000,
        "scales": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    },
    parameters=310_283_520,
    tensors=220,
    image_size=256,
    steps=10,
    order="ten scales, residuals of each other",
    blocks="a scale, 1 to 256 tokens",
    guidance=Ramp(1.5),
    top_k=900,
    top_p=0.96,
    tokenizer="var",
    tokenizer_weights=Weights(
        url=f"{_VAR}/vae_ch160v4096z32.pth",
        path="var/vae_ch160v4096z32.pth",
        bytes=436_075_834,
        sha256="7c3ec27ae28a3f87055e83211ea8cc8558bd1985d7b51742d074fb4c2fcf186c",
    ),
    weights=Weights(
        url=f"{_VAR}/var_d16.pth",
        path="var/var_d16.pth",
        bytes=1_243_116_346,
        sha256="4f6151aad91c94e03e224dd7358d8389fa05301c0c291279566998efb54b0ecb",
    ),
    release="weights; those before 2024-04-15 were of another attention",
    license="MIT",
    table1=Row(
        of="its paper",
        fid=3.30,
        inception_score=274.4,
        precision=0.84,
        recall=0.51,
        seconds=0.12,
        timed=_LATENCY,
    ),
    rows=(Row(of="its repository", fid=3.55),),
    deviations=(
        _RANDOM_NUMBERS,
        Deviation(
            what="precision",
            published="float16 autocast in the only script, a notebook",
            here="as the settings say; float32 by default",
        ),
        Deviation(
            what="guidance",
            published="1.5 in the repository; the paper is quoted with 2.0",
            here="1.5",
        ),
        Deviation(what="pixels", published="a rule is not stated", here="127.5 x + 128, cut"),
    ),
)

SYSTEMS = (ARPG, LPD, VAR)
