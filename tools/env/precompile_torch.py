"""Precompile torch's headers for gcc: ``precompile_torch.py HEADER STANDARD``.

Makes ``HEADER.gch`` of a file that includes them, with the flags that
setuptools and torch compile an extension with. gcc ignores it where the flags
differ after all.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from torch.utils.cpp_extension import include_paths


def main(header: str, standard: str) -> None:
    made, partial = Path(f'{header}.gch'), Path(f'{header}.part')
    if made.exists():
        return
    Path(header).write_text('#include <torch/types.h>\n')
    flags = ' '.join(
        [
            os.environ.get('CXX', 'c++'),
            os.environ.get('CFLAGS', sysconfig.get_config_var('CFLAGS')),
            os.environ['CPPFLAGS'],
            sysconfig.get_config_var('CCSHARED'),
        ]
    )
    includes = [*include_paths(), sysconfig.get_path('include')]
    command = [
        *shlex.split(flags),
        *(f'-I{path}' for path in includes),
        standard,
        '-DTORCH_API_INCLUDE_EXTENSION_H',
        '-DTORCH_EXTENSION_NAME=_ext',
    ]
    subprocess.run([*command, '-x', 'c++-header', header, '-o', partial], check=True)
    partial.rename(made)
    # Some systems cannot load what they made.
    subprocess.run(
        [
            *command,
            '-Werror=invalid-pch',
            '-include',
            header,
            '-x',
            'c++',
            '-c',
            os.devnull,
            '-o',
            os.devnull,
        ],
        check=True,
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
