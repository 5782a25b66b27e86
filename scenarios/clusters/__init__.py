"""Where runs are done: processes of this machine, Slurm by submitit, Ray; a run's folder comes back as bytes."""
