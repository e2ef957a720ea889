"""Mechanisms are pure."""

from __future__ import annotations

import subprocess
import sys


def test_mechanisms_import_no_twisted_and_no_socket_and_no_openssl():
    program = (
        "import sys, pkgutil, importlib, mta.sasl.mechanisms as package\n"
        "for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(sorted({'twisted', 'socket', 'OpenSSL', 'apsw', 'random', 'secrets'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr
