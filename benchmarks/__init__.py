"""Speed benchmarks, reported as ratios that any machine can check: `make bench`."""
