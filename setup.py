"""Builds the extension modules; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

NAMES = [
    "_checkpoints",
    "_codec",
    "_core",
    "_handoff",
    "_messages",
    "_redis",
]

setup(
    ext_modules=cythonize(
        [Extension(f"swarmstate.{name}", [f"ext/{name}.pyx"]) for name in NAMES],
        build_dir="build/cython",
        compiler_directives={"language_level": "3"},
    )
)
