"""The report: rows, claims, tables, figures and one HTML page."""
