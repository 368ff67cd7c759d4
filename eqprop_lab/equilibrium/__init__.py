"""The physics, independent of the model: certified spectra, relaxation, gradient estimators."""
