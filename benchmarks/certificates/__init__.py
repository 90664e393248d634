"""Certificates in the large: written for the examples and a sample of the corpus, and checked by other solvers."""
