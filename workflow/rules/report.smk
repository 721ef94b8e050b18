rule report:
    input:
        unpack(reads("report")),
    output:
        manifest=PLAN.manifest("report"),
        index=report(
            PLAN.pages("report")["index"], caption="../report/index.rst", category="Report"
        ),
        metrics=report(
            PLAN.pages("report")["metrics"], caption="../report/metrics.rst", category="Report"
        ),
        claims=report(
            PLAN.pages("report")["claims"], caption="../report/claims.rst", category="Report"
        ),
    log:
        PLAN.log("report"),
    threads: PLAN.threads("report")
    message:
        "report"
    shell:
        "python -m pcb report --preset {PRESET} 2>&1 | tee -i {log:q}"
