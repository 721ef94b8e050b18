rule tokens:
    input:
        unpack(reads("tokens")),
    output:
        manifest=PLAN.manifest("tokens"),
    log:
        PLAN.log("tokens"),
    threads: PLAN.threads("tokens")
    message:
        "tokens"
    shell:
        "python -m pcb tokens --preset {PRESET} 2>&1 | tee -i {log:q}"
