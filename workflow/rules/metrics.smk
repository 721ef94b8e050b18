rule metrics:
    input:
        unpack(reads("metrics")),
    output:
        manifest=PLAN.manifest("metrics", "{model}/{config}"),
    log:
        PLAN.log("metrics", "{model}/{config}"),
    threads: PLAN.threads("metrics")
    message:
        "metrics/{wildcards.model}/{wildcards.config}"
    shell:
        "python -m pcb metrics {wildcards.model}/{wildcards.config} --preset {PRESET}"
        " 2>&1 | tee -i {log:q}"
