"""The C++ compiler of this machine, which makes the kernels of the folder cpp and which torch's Inductor calls."""

import os
import shutil

COMPILERS = ("c++", "g++", "clang++")


def find_compiler() -> list[str] | None:
    """The command of the C++ compiler: that of the environment variable CXX, or else the first that is installed.

    None where it is not installed.
    """
    named = os.environ.get("CXX", "").split()
    for name, *options in [named] if named else [[name] for name in COMPILERS]:
        if found := shutil.which(name):
            return [found, *options]
    return None
