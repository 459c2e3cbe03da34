#!/bin/bash
# Trainings on a SLURM cluster, one for each seed. Options of sbatch come before the file, those of famkd after it:
#
#   sbatch examples/slurm.sh RECIPE --root DATA                                    seeds 0, 1 and 2
#   sbatch --array=0-9 --gpus-per-task=1 examples/slurm.sh RECIPE --root DATA      ten seeds, each on a GPU
#   sbatch --array=0 --nodes=2 --ntasks-per-node=4 --gpus-per-task=1 examples/slurm.sh RECIPE    one training on 8 GPUs
#
# Train a teacher of the form recipe:NAME before the seeds, which would all train it: sbatch --array=0 --wait
# examples/slurm.sh NAME. All nodes must see the working folder.
#
# The training is sent SIGUSR1 two minutes before its time is up, and SIGUSR1 or SIGTERM when a job of higher priority
# takes its place. It then saves its state and ends with exit code 75, and the job goes back to the queue.
#SBATCH --job-name=famkd
#SBATCH --array=0-2
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=famkd-%A_%a.log

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" famkd train "$@" --seed "$SLURM_ARRAY_TASK_ID" --resume
code=$?
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
