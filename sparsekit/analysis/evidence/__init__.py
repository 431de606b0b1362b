"""Whether measurements support what a paper says."""
