"""The stages, one file each: what a rule and a verb run."""
