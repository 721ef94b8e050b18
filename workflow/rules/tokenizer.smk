rule tokenizer:
    input:
        unpack(reads("tokenizer")),
    output:
        manifest=PLAN.manifest("tokenizer"),
    log:
        PLAN.log("tokenizer"),
    threads: PLAN.threads("tokenizer")
    message:
        "tokenizer"
    shell:
        "python -m pcb tokenizer --preset {PRESET} 2>&1 | tee -i {log:q}"
