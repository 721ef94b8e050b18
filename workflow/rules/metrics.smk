rule metrics:
    input:
        unpack(reads("metrics")),
    output:
        manifest=PLAN.manifest("metrics", "{model}/{setting}"),
    log:
        PLAN.log("metrics", "{model}/{setting}"),
    threads: PLAN.threads("metrics")
    message:
        "metrics/{wildcards.model}/{wildcards.setting}"
    shell:
        "python -m pcb metrics {wildcards.model}/{wildcards.setting} --preset {PRESET}"
        " 2>&1 | tee -i {log:q}"
