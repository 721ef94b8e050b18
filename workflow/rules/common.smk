wildcard_constraints:
    model="[a-z0-9_.-]+",
    config="[a-z0-9_.-]+",


def reads(stage):
    """Return the input function of a stage: its task's staleness file and the manifests that it reads."""

    def inputs(wildcards):
        variant = "/".join(wildcards) or "all"
        watched, ordered = PLAN.inputs(stage, variant)
        return watched | {name: ancient(path) for name, path in ordered.items()}

    return inputs


# A phase is all tasks of a stage, which dvc.yaml asks for; a preset may have none of a stage.
for phase in PLAN.stages:

    rule:
        name:
            f"{phase}_all"
        input:
            PLAN.manifests(phase),
