"""Certificates for a server on the loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CONFIG = """
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
x509_extensions = ext
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[ext]
subjectAltName = IP:127.0.0.1
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature,keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_certificate(folder: Path, start: str = "20000101000000Z") -> Path:
    """A key and a self-signed certificate for 127.0.0.1 in one file, which is its CA too."""
    folder.mkdir(parents=True)
    config, key, request, made = (folder / name for name in ("cnf", "key", "csr", "crt"))
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    sign = [
        "-selfsign",
        "-batch",
        "-notext",
        "-startdate",
        start,
        "-enddate",
        "21990101000000Z",
    ]
    for command in (
        ["req", "-new", *ec, "-keyout", key, "-out", request, "-subj", "/CN=mirror"],
        ["ca", *sign, "-keyfile", key, "-in", request, "-out", made],
    ):
        words = ["openssl", *map(str, command), "-config", str(config)]
        subprocess.run(words, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both
