"""The catalog, against the models, the recorded settings and the paper's table."""

import json
import subprocess
import sys

import pytest
import yaml

from pcb.published.guidance import OFF, Constant, Linear
from pcb.published.systems import catalog
from pcb.sample.filter import Filter
from pcb.systems.family import FAMILY, empty_model
from tests.recorded import PEERS
from tests.systems.family import FOLDERS
from tests.tasks import ROOT

OF_FAMILY = [system for system in catalog().values() if system.kind in FAMILY]


def published():
    content = yaml.safe_load((ROOT / "pcb/report/published.yaml").read_text())
    return {row["system"]: row for row in content["table1"]}


@pytest.mark.parametrize("system", catalog().values(), ids=catalog())
def test_rows_are_those_of_the_papers_table(system):
    row = published()[system.name]
    ours = system.table1
    assert (ours.fid, ours.inception_score) == (row["fid"], row["is"])
    assert (ours.precision, ours.recall) == (row["precision"], row["recall"])
    assert (ours.seconds, str(system.steps)) == (row["time_s"], row["steps"])
    assert abs(system.parameters / 1e6 - row["params_m"]) < 1


@pytest.mark.parametrize("system", OF_FAMILY, ids=lambda system: system.name)
def test_settings_are_the_recorded_ones(system):
    config = json.loads((PEERS / FOLDERS[system.kind] / "config.json").read_text())
    recorded = config["published"]
    assert recorded["name"] == system.name
    for key, value in system.description.items():
        assert recorded[key] == (list(value) if key == "grid" else value)
    assert recorded["steps"] == system.steps
    assert recorded["image_size"] == system.image_size
    assert recorded["evaluated_at"] == 256
    filter = Filter(temperature=system.temperature, top_k=system.top_k, top_p=system.top_p)
    assert filter == Filter(
        temperature=recorded["temperature"], top_k=recorded["top_k"], top_p=recorded["top_p"]
    )
    guidance = recorded["guidance"]
    if guidance["kind"] == "constant":
        assert system.guidance == Constant(guidance["scale"])
    else:
        first, last = guidance["from"], guidance["to"]
        assert system.guidance == Linear(first=first, last=last, count="before block")


@pytest.mark.parametrize("system", OF_FAMILY, ids=lambda system: system.name)
def test_models_have_the_counts_that_are_said_of_them(system):
    model = empty_model(system.kind, system.description, system.name)
    assert sum(x.numel() for x in model.parameters()) == system.parameters
    assert len(model.state_dict()) == system.tensors
    assert model.size.side * 16 == system.image_size
    # One block of full width is enough to make a decoder of.
    small = {**system.description, "width": 8, "hidden_width": 8, "heads": 1, "blocks": 1}
    member = FAMILY[system.kind]
    tiny = empty_model(system.kind, {**small, "codes": 4}, system.name).to_empty(device="cpu")
    decoder = member.decoder(tiny, OFF, system.schedule_steps)
    assert (decoder.steps, sum(decoder.sizes)) == (system.steps, model.size.tokens)


def test_what_was_not_released_is_said_to_be_so():
    assert catalog()["PAR-L-4x"].weights is None
    assert not catalog()["PAR-L-4x"].table1.weights_released
    assert not catalog()["RandAR-L"].table1.weights_released
    assert catalog()["RandAR-L"].rows[0].weights_released
    for system in catalog().values():
        if system.weights is not None:
            assert system.weights.url.startswith("https://huggingface.co/")
            named = system.weights.url.endswith(system.weights.path.rsplit("/")[-1])
            assert named == system.weights.direct == (system.name != "NAR-L")


def test_the_catalog_loads_no_torch():
    code = "import sys, pcb.published.systems; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
