"""The model of the verifier against real kernels: corpus programs, the kernel's own verifier cases, mutants."""
