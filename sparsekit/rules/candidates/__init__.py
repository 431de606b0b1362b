"""Candidates: which missing connections are considered for growth. One file a method."""
