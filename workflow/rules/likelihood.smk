rule likelihood:
    input:
        unpack(reads("likelihood")),
    output:
        manifest=PLAN.manifest("likelihood", "{model}/{config}"),
    log:
        PLAN.log("likelihood", "{model}/{config}"),
    threads: PLAN.threads("likelihood")
    message:
        "likelihood/{wildcards.model}/{wildcards.config}"
    shell:
        "python -m pcb likelihood {wildcards.model}/{wildcards.config} --preset {PRESET}"
        " 2>&1 | tee -i {log:q}"
