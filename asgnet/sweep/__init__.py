"""The study's stale cells in parallel: DVC says what is stale and keeps the record, submitit runs the commands."""
