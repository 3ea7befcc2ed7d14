"""Figures for the paper: plain tables and arrays in, matplotlib figures out, no model code."""
