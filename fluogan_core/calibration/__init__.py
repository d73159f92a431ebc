"""What is read from a stack before anything is fitted: PSF width, camera, noise, bad pixels."""
