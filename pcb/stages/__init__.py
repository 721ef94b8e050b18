"""The stages, from data to report: one file, one rule and one verb each."""
