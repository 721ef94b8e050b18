rule sample:
    input:
        unpack(reads("sample")),
    output:
        manifest=PLAN.manifest("sample", "{model}/{config}"),
    log:
        PLAN.log("sample", "{model}/{config}"),
    threads: PLAN.threads("sample")
    message:
        "sample/{wildcards.model}/{wildcards.config}"
    shell:
        "python -m pcb sample {wildcards.model}/{wildcards.config} --preset {PRESET}"
        " 2>&1 | tee -i {log:q}"
