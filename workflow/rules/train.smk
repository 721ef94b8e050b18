rule train:
    input:
        unpack(reads("train")),
    output:
        manifest=PLAN.manifest("train", "{model}"),
    log:
        PLAN.log("train", "{model}"),
    threads: PLAN.threads("train")
    message:
        "train/{wildcards.model}"
    shell:
        "python -m pcb train {wildcards.model} --preset {PRESET} 2>&1 | tee -i {log:q}"
