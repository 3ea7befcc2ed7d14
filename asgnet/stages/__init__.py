"""The stages of the pipeline, each a function of the study. Thin: the work is elsewhere."""
