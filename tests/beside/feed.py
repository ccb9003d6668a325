"""Gives messages to a mail host, and tells what it answered.

usage: feed.py smtp HOST | feed.py sendmail      standard input and output: JSON

``smtp`` is run in the namespace of the host's network: each message is {"lines": [...], "content": "..."}; the lines
are said one after the other, and the content after a 354. The answers are the result. ``sendmail`` is run in the
machine by its Python: each message is {"words": [...], "user": "...", "content": "..."}; exit status and standard
error are the result.
"""

import json
import os
import pwd
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def smtp(host, message):
    """A session with one message: the answers."""
    answers = []
    with socket.create_connection((host, 25), timeout=60) as sock, sock.makefile("rb") as file:

        def hear():
            lines = []
            while (line := file.readline().decode("utf-8", "backslashreplace")) and line[3:4] == "-":
                lines.append(line.rstrip("\r\n"))
            answers.append("\n".join([*lines, line.rstrip("\r\n")]))
            return line

        hear()
        for line in message["lines"]:
            sock.sendall(encode(line) + b"\r\n")
            if hear()[:3] == "354":
                content = encode(message["content"]).replace(b"\n", b"\r\n")
                content += b"\r\n" * (content[-1:] not in (b"", b"\n"))
                sock.sendall(b"".join(b"." * part.startswith(b".") + part for part in content.splitlines(True)))
                sock.sendall(b".\r\n")
                hear()
    return answers


def sendmail(message):
    """One run of sendmail: its exit status and what it said."""
    user = pwd.getpwnam(message["user"])
    done = subprocess.run(
        ["sendmail", *(encode(word) for word in message["words"])], input=encode(message["content"]), timeout=60,
        capture_output=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False, cwd="/",
        env={"PATH": os.environ["PATH"], "LOGNAME": message["user"], "HOME": user.pw_dir},
    )  # fmt: skip
    return [str(done.returncode), (done.stdout + done.stderr).decode("utf-8", "backslashreplace")]


def encode(text):
    return text.encode("utf-8", "surrogateescape")


def main(way, *arguments):
    messages = json.load(sys.stdin)
    give = sendmail if way == "sendmail" else (lambda message: smtp(*arguments, message))
    with ThreadPoolExecutor(4) as pool:
        json.dump(list(pool.map(give, messages)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
