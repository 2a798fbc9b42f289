"""Ablations: plans of many runs, engines that run them, and statistics of what they found."""
