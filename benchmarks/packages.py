"""Debian packages as material, by the name that the benchmarks know them by (verifier_model/kernel/packages.py)."""

from verifier_model.kernel.packages import PackageError as PackageError
from verifier_model.kernel.packages import cache_folder as cache_folder
from verifier_model.kernel.packages import deb as deb
from verifier_model.kernel.packages import newest_package as newest_package
from verifier_model.kernel.packages import source_tree as source_tree
from verifier_model.kernel.packages import unpack_deb as unpack_deb
from verifier_model.kernel.packages import version_of as version_of
