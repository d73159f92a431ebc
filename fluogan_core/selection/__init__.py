"""Choosing options by frames that were not fitted."""
