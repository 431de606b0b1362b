"""Whether what was measured bears out what a paper says."""
