"""Reading a JSON object of any size without having all of it in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BLOCK = 1 << 22  # bytes read at a time
_AFTER = ' \t\n\r,:]}'  # a value
_GAP = re.compile(r'[ \t\n\r]*')
_COMMA = re.compile(r'[ \t\n\r]*,[ \t\n\r]*')
# A list without text, objects or nothing at all, and what must follow it
_NUMBERS = r'"{}":\s*\[[\s\[]*[^\s\[\]"{{}}][^"{{}}]*\](?=\s*(?:,\s*"[^"]*"\s*:|\}}))'


def read_members(path: str | Path, skip: str | None = None) -> Iterator[tuple[str, Any]]:
    """Read the members of the JSON object in a file.

    Args:
        path: The file.
        skip: A key whose lists of numbers, nested or not, are not needed: most
            of them are read as ``[0]``, in a fraction of the time.

    Yields:
        Key and value. A list comes in parts, under the same key.

    Raises:
        ValueError: If the file is not a JSON object, or a key is repeated.
    """
    with open(path, 'rb') as file:
        yield from _Text(file, skip).members()


class _Text:
    """A window on the text of a file, from what is read next on."""

    def __init__(self, file: BinaryIO, skip: str | None) -> None:
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        self.file = file
        self.decode = codecs.getincrementaldecoder(encoding)('surrogatepass').decode
        self.scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
        self.skip = re.compile(_NUMBERS.format(re.escape(skip))) if skip else None
        self.skipped = f'"{skip}":[0]'
        self.text, self.pos, self.before = '', 0, 0

    def members(self) -> Iterator[tuple[str, Any]]:
        keys: set[str] = set()
        for _ in self.entries('{', '}'):
            key = self.value() if self.peek() == '"' else self.fail('a key is missing')
            if key in keys:
                self.fail(f'the key "{key}" is repeated')
            keys.add(key)
            self.take(':')
            if self.peek() == '[':
                for part in self.elements():
                    yield key, part
            else:
                yield key, self.value()
        if self.peek():
            self.fail('there is more after the end of the object')

    def elements(self) -> Iterator[list]:
        """A list in parts, of which the first is empty."""
        yield []
        for _ in self.entries('[', ']'):
            part, text, pos = [], self.text, self.pos
            while True:
                try:
                    value, after = self.scan(text, pos)
                except (StopIteration, ValueError):
                    break
                comma = _COMMA.match(text, after)
                if comma is None:
                    break
                part.append(value)
                pos = comma.end()
            # the last of the list or of the window, which may be cut off
            self.pos = pos
            part.append(self.value())
            yield part

    def entries(self, opening: str, closing: str) -> Iterator[None]:
        """Stop before each entry of a list or object."""
        self.take(opening)
        end = self.take(closing) if self.peek() == closing else ''
        while end != closing:
            self.peek()
            yield
            end = self.take(',' + closing)

    def value(self) -> Any:
        while True:
            self.peek()
            try:
                value, after = self.scan(self.text, self.pos)
            except (StopIteration, ValueError) as error:
                if self.read():
                    continue
                self.fail(getattr(error, 'msg', 'a value is missing'))
            whole = after < len(self.text) and self.text[after] in _AFTER  # a number may go on
            if whole or not self.read():
                self.pos = after
                return value

    def take(self, allowed: str) -> str:
        """Pass one of the characters ``allowed``."""
        char = self.peek()
        if not char or char not in allowed:
            self.fail(f'expected one of {allowed} and found {char or "the end of the file"}')
        self.pos += 1
        return char

    def peek(self) -> str:
        """The next character that is no white space; none at the end of the file."""
        while True:
            self.pos = _GAP.match(self.text, self.pos).end()  # type: ignore[union-attr]
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.read():
                return ''

    def read(self) -> bool:
        """Read on, more each time that a value does not fit; False at the end of the file."""
        block = self.file.read(max(_BLOCK, len(self.text) - self.pos))
        text = self.decode(block, final=not block)
        if self.skip:
            text = self.skip.sub(self.skipped, text)
        self.before += self.pos
        self.text, self.pos = self.text[self.pos :] + text, 0
        return bool(block)

    def fail(self, what: str) -> Any:
        raise ValueError(f'{what} (at character {self.before + self.pos})')
