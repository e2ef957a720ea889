"""The MIME structure of somebody else's message, as far as reading a report needs it. Pure, linear, bounded; never raises.

Lines end with LF here (`with_lf`). Everything that is malformed is read as well as it goes: a part without an end goes to the end of what there
is, a header line that is no field is passed over. message/* parts are leaves: what a report returns can't pass for a part of it.
"""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Iterator

from mta.mail.envelope import value

LOOKED_AT_OCTETS = 1_000_000  # what a report tells stands at its beginning; whatever it returns may be larger
DEPTH_MAX = 8  # multiparts in multiparts: lists, virus scanners and gateways wrap reports
PARTS_MAX = 200
FIELDS_MAX = 20_000
VALUE_CHARACTERS_MAX = 2_000

_FIELD = re.compile(r"([!-9;-~]{1,200})[ \t]*:(.*)", re.DOTALL)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_PARAMETER = re.compile(r';\s*([!#-\'*+.0-9A-Z^-~-]{1,100})\s*=\s*(?:"((?:[^"\\]|\\.){0,1000})"|([^\s;"]{1,1000}))')


@value
class Part:
    """A leaf: its fields (lower-case name, value on one line), and its body as it came."""

    kind: str  # media type, lower case
    fields: tuple[tuple[str, str], ...]
    raw: bytes
    charset: str = ""

    def field(self, name: str) -> str:
        """The first of that name; "" when there is none."""
        return next((value for key, value in self.fields if key == name), "")

    def body(self) -> bytes:
        """Without its transfer encoding; what can't be decoded stays as it is."""
        encoding = self.field("content-transfer-encoding").strip().lower()
        try:
            if encoding == "base64":
                return with_lf(binascii.a2b_base64(self.raw))
            if encoding == "quoted-printable":
                return with_lf(quopri.decodestring(self.raw))
        except (binascii.Error, ValueError):
            pass
        return self.raw


def with_lf(octets: bytes) -> bytes:
    """As much as is looked at."""
    return octets[:LOOKED_AT_OCTETS].replace(b"\r\n", b"\n")


def leaves(octets: bytes) -> Iterator[Part]:
    """The parts that are no multiparts, in their order. The fields of the message itself are those of no part: see `top_fields`."""
    waiting = [(octets, 0)]
    seen = 0
    while waiting and seen < PARTS_MAX:
        entity, depth = waiting.pop()
        seen += 1
        header, body = split(entity)
        fields = header_fields(header)
        kind, parameters = content_type(_first(fields, "content-type"))
        boundary = parameters.get("boundary", "")
        if kind.startswith("multipart/") and boundary and depth < DEPTH_MAX:
            waiting += [(each, depth + 1) for each in reversed(between(body, boundary))]
        else:
            yield Part(kind, fields, body, parameters.get("charset", ""))


def top_fields(octets: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of the message's own header."""
    return header_fields(split(octets)[0])


def split(entity: bytes) -> tuple[bytes, bytes]:
    """Header and body at the first empty line. The header ends with LF, unless there is none."""
    if entity.startswith(b"\n"):
        return b"", entity[1:]
    end = entity.find(b"\n\n")
    return (entity, b"") if end < 0 else (entity[: end + 1], entity[end + 2 :])


def header_fields(header: bytes) -> tuple[tuple[str, str], ...]:
    """(lower-case name, value), unfolded, of printable text."""
    fields: list[tuple[str, list[str]]] = []
    for line in header.split(b"\n", FIELDS_MAX)[:FIELDS_MAX]:
        text = line[: 2 * VALUE_CHARACTERS_MAX].decode("utf-8", "replace")
        if text[:1] in {" ", "\t"}:
            if fields:
                fields[-1][1].append(text)
            continue
        hit = _FIELD.match(text)
        if hit is not None:
            fields.append((hit[1].lower(), [hit[2]]))
    return tuple((name, _one_line("".join(pieces[:100]))) for name, pieces in fields)


def _one_line(text: str) -> str:
    return _CONTROLS.sub(" ", text[: 2 * VALUE_CHARACTERS_MAX]).strip()[:VALUE_CHARACTERS_MAX]


def content_type(text: str) -> tuple[str, dict[str, str]]:
    """Media type and parameters, both in lower case but for the values."""
    kind, semicolon, rest = text.partition(";")
    parameters: dict[str, str] = {}
    for hit in _PARAMETER.finditer(semicolon + rest):
        value = re.sub(r"\\(.)", r"\1", hit[2]) if hit[2] is not None else hit[3]
        parameters.setdefault(hit[1].lower(), value)
    return kind.strip().lower() or "text/plain", parameters


def between(body: bytes, boundary: str) -> list[bytes]:
    """The parts between the boundary's lines (RFC 2046 section 5.1.1)."""
    mark = b"\n--" + boundary.encode("utf-8")
    text = b"\n" + body
    found: list[bytes] = []
    begin = -1  # of the part that is open
    at = text.find(mark)
    while at >= 0 and len(found) < PARTS_MAX:
        behind = at + len(mark)
        line_end = text.find(b"\n", behind)
        line_end = len(text) if line_end < 0 else line_end
        rest = text[behind:line_end].strip()
        if rest in {b"", b"--"}:
            if begin >= 0:
                found.append(text[begin:at])
            begin = -1 if rest else line_end + 1
            if rest:
                return found
        at = text.find(mark, line_end)
    if begin >= 0:
        found.append(text[begin:])  # its end is missing, or beyond what is looked at
    return found


def _first(fields: tuple[tuple[str, str], ...], name: str) -> str:
    return next((value for key, value in fields if key == name), "")
