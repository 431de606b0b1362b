"""Grow scores: how promising a missing connection is. One file a method. Higher means grow."""
