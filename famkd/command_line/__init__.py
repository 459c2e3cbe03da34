"""What the command lines of famkd and famviz share: reading flags, and ending with one sentence and an exit code."""
