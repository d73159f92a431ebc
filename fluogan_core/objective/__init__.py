"""The terms of eq. (11), their gradients, priors and proximal operators."""

from .terms import Objective

__all__ = ["Objective"]
