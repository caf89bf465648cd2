"""How fast autocaption is, as ratios that any machine can check: `make bench`."""
