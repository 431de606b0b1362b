"""Grow scores: how promising a missing connection is. Each method is one file. Higher means grow."""
