"""Builds the extension modules; everything else is in pyproject.toml."""

import gzip
import os
import sys
import tarfile

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.sdist import sdist

NAMES = [
    "_checkpoints",
    "_codec",
    "_core",
    "_handoff",
    "_messages",
    "_redis",
]
# Without debugging information, which names the folder of the build: the same sources then give the
# same bytes everywhere, in a sixth of the size.
COMPILER = [] if sys.platform == "win32" else ["-g0"]
LIBRARIES = {"_redis": ["ws2_32"]} if sys.platform == "win32" else {}

if "SOURCE_DATE_EPOCH" in os.environ:
    os.umask(0o022)  # a wheel has the modes of the files that are made from here on


class ReproducibleSdist(sdist):
    """Where SOURCE_DATE_EPOCH is set, the same sources give the same archive to the byte."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        moment = os.environ.get("SOURCE_DATE_EPOCH")
        if moment is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        def uniform(member):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(moment)
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        name = f"{base_name}.tar.gz"
        # The name of the file that is compressed would be in the header.
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(moment)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(os.path.join(root_dir or ".", base_dir), base_dir, filter=uniform)
        return name


setup(
    cmdclass={"sdist": ReproducibleSdist},
    ext_modules=cythonize(
        [
            Extension(
                f"swarmstate.{name}",
                [f"ext/{name}.pyx"],
                extra_compile_args=COMPILER,
                libraries=LIBRARIES.get(name, []),
            )
            for name in NAMES
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": "3"},
    ),
)
