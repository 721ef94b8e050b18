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

from pcb.pipeline.workflow import hold_workflow, load_plan, recap

PLAN = load_plan()
PRESET = PLAN.name
if workflow.is_main_process:
    PLAN.sync_times()


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        PLAN.targets,


for stage in PLAN.stages:

    include: f"workflow/rules/{stage}.smk"


onstart:
    hold_workflow()
    # Its limit of jobs per second starts a timer at every pass of the scheduler, which makes another
    # pass a second later: after two hundred jobs these take a core.
    workflow.scheduler.job_rate_limiter = None
    if PLAN.submits_jobs():
        # Only here: who computes on this machine needs no submitit.
        from pcb.launch.terminal import show_jobs

        show_jobs()


onerror:
    print(recap([Path(path) for path in log]), file=sys.stderr, flush=True)
    if PLAN.submits_jobs():
        from pcb.launch.terminal import ask_about_jobs

        ask_about_jobs(PRESET)
