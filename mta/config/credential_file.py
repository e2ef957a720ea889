"""A file that holds one password: its first line. Kept like every secret: others must not be able to read it."""

from __future__ import annotations

from pathlib import Path

from mta.config.secret_file import exposure

PASSWORD_LIMIT_OCTETS = 1024


class CredentialFileError(ValueError):
    """There is no password to be had from it. The message says why and never quotes it."""


def read_password(path: Path) -> str:
    """Raises CredentialFileError."""
    try:
        exposed = exposure(path)
        if exposed:
            raise CredentialFileError(exposed)
        with path.open("rb") as file:
            octets = file.read(PASSWORD_LIMIT_OCTETS + 2)
    except OSError as error:
        raise CredentialFileError(f"{path} can't be read: {error.strerror}") from None
    line = octets.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise CredentialFileError(f"{path} has no password in its first line")
    if len(line) > PASSWORD_LIMIT_OCTETS:
        raise CredentialFileError(f"{path} has a first line of more than {PASSWORD_LIMIT_OCTETS} octets: no password")
    try:
        password = line.decode("utf-8")
    except UnicodeDecodeError:
        raise CredentialFileError(f"{path} is not UTF-8") from None
    if "\0" in password:
        raise CredentialFileError(f"{path} has a NUL in its password")
    return password
