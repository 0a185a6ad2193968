"""Builds the extension modules; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [
            Extension("swarmstate._core", ["ext/_core.pyx"]),
            Extension("swarmstate._messages", ["ext/_messages.pyx"]),
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": "3"},
    )
)
