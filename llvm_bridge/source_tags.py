"""Tags in the source that an object cannot show: `btf_decl_tag` leaves no trace without -g."""

from __future__ import annotations

import re
import subprocess
from typing import Final

from llvm_bridge.glance import has_code
from llvm_bridge.invocation import Job
from llvm_bridge.plugin_facts import NoFacts, silent_words

_TAG: Final = re.compile(rb'btf_decl_tag__\s*\(\s*"k2:|btf_decl_tag\s*\(\s*"k2:')
_SECONDS: Final = 60


def lost_tags(job: Job, data: bytes) -> bool:
    """Does the job's source, preprocessed, carry tags of ours that its object `data` has no BTF for?

    False where that cannot be told: an object without code, a source from a stream, a compiler that is not clang.
    """
    if not job.words or b".BTF\0" in data or not has_code(data):
        return False
    try:
        words = silent_words(job.words[2:])
        command = [job.words[0], "-cc1", *("-E" if word == "-emit-obj" else word for word in words)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (NoFacts, OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and _TAG.search(done.stdout) is not None
