"""Commands that take long: their progress, and what to do when they fail."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

REMEDIES = {
    '(FORCE_CUDA=1, but .*)': '{}',
    'No space left|quota exceeded': 'the disk is full: free some space (about 3 GB are needed, '
    '10 GB with CUDA) and run this again',
    r'Python\.h: No such file': "Python's C headers are missing: apt install python3-dev",
    r"(command|execute) '?\S*(g\+\+|gcc|c\+\+|cc)'?.*(not found|No such file)": 'no C++ compiler: '
    'apt install g++',
    'Killed signal|compiler error: Killed|ninja: fatal: .*memory|MemoryError': 'out of memory: '
    'run it again with MAX_JOBS=1 in front',
    'NewConnectionError|name resolution|Network is unreachable|Connection (refused|reset|timed out)'
    '|ConnectTimeout|Read ?timed ?out|ProxyError|SSLError': 'the package index cannot be reached: '
    "check the network (or pip's index and proxy settings: pip config list) and run this again",
    r'No matching distribution found for ([^ ;\n]*)': 'pip found no version of {} for this Python '
    "and machine: check pip's index settings (pip config list)",
    r'Permission denied:? *(.*)': 'no permission to write {}: make it yours (chown)',
}


def die(message: str) -> NoReturn:
    """End with the one line that says what is wrong."""
    print(f'{sys.argv[1]}: error: {message}', file=sys.stderr)
    sys.exit(1)


def say(*words: object) -> None:
    print(*words, flush=True)


def minutes(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def output_of(*command: str | Path) -> str:
    """What a command prints; empty if it fails."""
    options = dict(stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        return subprocess.check_output(command, **options).strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


class Step:
    """A command in a session of its own, its output in a log."""

    running: list[Step] = []

    def __init__(self, label: str, log: Path, command: list, **environment: str):
        self.label, self.log, self.started = label, log, time.monotonic()
        options = dict(stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        options['env'] = {**os.environ, **environment}
        with log.open('wb') as file:
            self.process = subprocess.Popen(list(map(str, command)), stdout=file, **options)
        self.running.append(self)

    def progress(self) -> str:
        """How far the compiler is by ninja's count, else the last line of the log."""
        text = self.log.read_bytes()[-100_000:].decode(errors='replace').replace('\r', '\n')
        counts = re.findall(r'^\s*\[(\d+)/(\d+)\]', text, re.MULTILINE)
        if not counts:
            return ['', *text.split('\n')][-2].strip()
        done, files = map(int, counts[-1])
        left = (time.monotonic() - self.started) * (files - done) / done
        return f'{done} of {files} files compiled, about {minutes(left)} left'

    def succeeds(self) -> bool:
        """Show the progress until the command ends."""
        live, shown = sys.stdout.isatty(), 0.0
        while self.process.poll() is None:
            time.sleep(0.05)
            seconds = time.monotonic() - self.started
            if seconds - shown > (0.5 if live else 30):
                shown = seconds
                text = f'      {minutes(seconds)}  {self.progress()}'
                text = text[: shutil.get_terminal_size().columns - 1 if live else 110]
                print(f'\r\033[K{text}' if live else f'{text}\n', end='', flush=True)
        print('\r\033[K' if live else '', end='')
        self.running.remove(self)
        return self.process.returncode == 0

    def finish(self) -> None:
        """Wait for the command; end with an explanation if it fails."""
        self.succeeds() or self.explain()

    def explain(self, remedy: str = '') -> NoReturn:
        """End with the last lines of the log, and what to do about them."""
        text = self.log.read_text(errors='replace')
        for line in text.splitlines()[-12:]:
            print('      |', line[:200], file=sys.stderr)
        for pattern, known in REMEDIES.items():
            found = re.search(pattern, text, re.IGNORECASE)
            if found:
                die(f'{self.label}: {known.format(*found.groups()[-1:])}')
        die(f'{self.label}: {remedy or f"failed, the reason is in {self.log}"}')

    @classmethod
    def end_all(cls) -> None:
        """End what still runs, with its children."""
        for step in cls.running:
            os.killpg(step.process.pid, signal.SIGTERM)
