"""Critics, networks and quadratic ones, and the gradient of E[D]."""
