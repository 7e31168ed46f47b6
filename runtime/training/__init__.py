"""Train a model: steps, schedules, checkpoints, runs, several processes."""
