"""Many trainings: grids, seeds, and the processes that they run in."""
