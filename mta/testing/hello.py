"""Try a running development MTA: submit a mail as the demo user, over STARTTLS with AUTH, and show where it arrived.

python -m mta.testing.hello [--port 2587] [--maildir var/mail/dev.test/demo]
"""

from __future__ import annotations

import argparse
import smtplib
import ssl
import sys
import time
import uuid
from email.message import EmailMessage
from pathlib import Path

ARRIVAL_SECONDS = 10.0


def main() -> int:
    options = argparse.ArgumentParser(description="Send a mail through a running development MTA")
    options.add_argument("--port", type=int, default=2587)
    options.add_argument("--user", default="demo@dev.test")
    options.add_argument("--password", default="demo-password")
    options.add_argument("--maildir", type=Path, default=Path("var/mail/dev.test/demo"))
    arguments = options.parse_args()
    mark = uuid.uuid4().hex
    message = EmailMessage()
    message["From"] = message["To"] = arguments.user
    message["Subject"] = "Hello"
    message["X-Hello"] = mark
    message.set_content("It works.\n")
    # The development certificate is self-signed; whether it can be verified is not what is tried here.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with smtplib.SMTP("127.0.0.1", arguments.port, timeout=30) as client:
            client.starttls(context=context)
            client.login(arguments.user, arguments.password)
            client.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        sys.stderr.write(f"hello: {error}\n")
        return 1
    found = _arrival(arguments.maildir / "new", mark)
    if found is None:
        sys.stderr.write(f"hello: taken, but nothing in {arguments.maildir} after {ARRIVAL_SECONDS:.0f} s\n")
        return 1
    sys.stdout.write(f"Taken and delivered: {found}\n\n{found.read_text(errors='replace')}")
    return 0


def _arrival(folder: Path, mark: str) -> Path | None:
    end = time.monotonic() + ARRIVAL_SECONDS
    while time.monotonic() < end:
        for path in sorted(folder.glob("*"), reverse=True)[:100]:
            if mark in path.read_text(errors="replace"):
                return path
        time.sleep(0.05)
    return None


if __name__ == "__main__":
    sys.exit(main())
