"""Tasks as local processes, or as Slurm jobs that outlive who submitted them."""
