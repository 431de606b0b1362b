"""Candidates: which missing connections are considered for growth. Each method is one file."""
