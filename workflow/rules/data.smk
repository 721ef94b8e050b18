rule data:
    input:
        unpack(reads("data")),
    output:
        manifest=PLAN.manifest("data"),
    log:
        PLAN.log("data"),
    threads: PLAN.threads("data")
    message:
        "data"
    shell:
        "python -m pcb data --preset {PRESET} 2>&1 | tee -i {log:q}"
