"""Recorded folders of the systems, computed anew: what `pcb parity` compares."""
