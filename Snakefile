"""The experiment of one preset, from data to report: `make reproduce` runs it.

Its only outputs are manifests (and the report's pages). What is stale is decided by content in
pcb.pipeline.staleness; each rule is one `pcb` call. PCB_PRESET picks the preset.
"""

import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, workflow.basedir)
# The interpreter that runs Snakemake also runs the rules, whether or not its venv is active.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

from pcb.pipeline.workflow import Plan, hold_workflow, recap
from pcb.pipeline.stages import launcher_of

PLAN = Plan()
PRESET = PLAN.name
if workflow.is_main_process:
    PLAN.settle()


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        list(PLAN.pages().values()),
        PLAN.manifest("report"),


include: "workflow/rules/data.smk"
include: "workflow/rules/tokenizer.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/tokens.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/report.smk"


onstart:
    hold_workflow()
    if launcher_of("train") == "slurm":
        # Only here: who computes on this machine needs no submitit.
        from pcb.launch.terminal import show_jobs

        show_jobs()


onerror:
    print(recap([Path(path) for path in log]), file=sys.stderr, flush=True)
    if launcher_of("train") == "slurm":
        from pcb.launch.terminal import ask_about_jobs

        ask_about_jobs(PRESET)
