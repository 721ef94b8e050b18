"""What others published of their systems: settings, rows, files. Facts alone; no torch."""
