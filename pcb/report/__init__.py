"""The report: from manifests and artifacts to tables, figures, verdicts and one HTML page."""
