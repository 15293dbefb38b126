"""check_data run in this process, and damage done to single bytes."""

import hashlib
import json

from tools.check_data import main


def run_check(capsys, *arguments):
    """Return exit code, all problems and the report of check_data --json."""
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code
    return code, [p for folder in report["folders"] for p in folder["problems"]], report


def digests(folder):
    """Return the path of each file -> its SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def flip(path, offset):
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def break_tables(path):
    """Make a JPEG that looks whole and cannot be decoded."""
    data = bytearray(path.read_bytes())
    tables = data.index(b"\xff\xc4")
    data[tables + 5 : tables + 21] = b"\xff" * 16
    path.write_bytes(data)
