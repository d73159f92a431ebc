"""Test patterns, blinking emitters and cameras."""
