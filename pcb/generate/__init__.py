"""Images from a finished model, for whoever wants to look at them or hand them on."""
