"""The phases of a reconstruction and who runs them."""
