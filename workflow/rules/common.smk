wildcard_constraints:
    model="[a-z0-9_.-]+",
    setting="[a-z0-9_.-]+",


def reads(stage):
    """Return the input function of a stage: its unit's stamp and the manifests that it reads."""

    def inputs(wildcards):
        variant = "/".join(wildcards) or "all"
        watched, ordered = PLAN.inputs(stage, variant)
        return watched | {name: ancient(path) for name, path in ordered.items()}

    return inputs
