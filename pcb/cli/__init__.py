"""The command line: `pcb VERB`. Parsing and printing only; what a verb does stands elsewhere."""
