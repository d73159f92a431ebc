"""The model: point spread functions, the operator Psi, eq. (1) and the covariance that it predicts."""
