"""Images from a finished model, for whoever wants to look at them or hand them on.

`load` is what `pcb.load` is; the verbs `generate` and `export` are thin ones on this package.
"""
