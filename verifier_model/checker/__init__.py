"""What the kernel accepts: abstract execution of every instruction, and the conditions decided along the paths."""

from verifier_model.checker.check import Rejection, Report, check
from verifier_model.checker.local import local_safety

__all__ = ["Rejection", "Report", "check", "local_safety"]
