rule sample:
    input:
        unpack(reads("sample")),
    output:
        manifest=PLAN.manifest("sample", "{model}/{setting}"),
    log:
        PLAN.log("sample", "{model}/{setting}"),
    threads: PLAN.threads("sample")
    message:
        "sample/{wildcards.model}/{wildcards.setting}"
    shell:
        "python -m pcb sample {wildcards.model}/{wildcards.setting} --preset {PRESET}"
        " 2>&1 | tee -i {log:q}"
