rule reference:
    input:
        unpack(reads("reference")),
    output:
        manifest=PLAN.manifest("reference"),
    log:
        PLAN.log("reference"),
    threads: PLAN.threads("reference")
    message:
        "reference"
    shell:
        "python -m pcb reference --preset {PRESET} 2>&1 | tee -i {log:q}"
