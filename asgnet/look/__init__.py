"""Datasets, episodes and results prepared for looking at, as the plain arrays that asgnet.plots draws."""
