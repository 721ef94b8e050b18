rule classifier:
    input:
        unpack(reads("classifier")),
    output:
        manifest=PLAN.manifest("classifier"),
    log:
        PLAN.log("classifier"),
    threads: PLAN.threads("classifier")
    message:
        "classifier"
    shell:
        "python -m pcb classifier --preset {PRESET} 2>&1 | tee -i {log:q}"
