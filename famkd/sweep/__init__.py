"""Many trainings: grids, seeds side by side, jobs on this machine or a cluster."""
