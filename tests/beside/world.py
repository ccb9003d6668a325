"""The world outside a mail host under comparison: DNS, and next hops that answer as a recipient's name asks for.

usage: world.py ADDRESS DIRECTORY

A process of its own in the namespace of the machine's network; ADDRESS is the network's gateway. DIRECTORY/zone.json
has the DNS records; what next hops received goes to DIRECTORY/received, one JSON object a line. While
DIRECTORY/released does not exist, recipients called ``later`` are refused for the time being. Prints a line when all
listens; ends with its standard input.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dns_server import DnsServer

EXTENSIONS = ("PIPELINING", "SIZE 10240000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING")

# What a word in a local part makes a next hop answer: when asked what, and what; no answer is a closed connection.
ANSWERS = {
    "rcpt4": ("RCPT", "450 4.2.1 Mailbox busy, try later"),
    "rcpt5": ("RCPT", "550 5.1.1 No such user here"),
    "rcptfull": ("RCPT", "552 5.2.2 Mailbox full"),
    "rcptplain": ("RCPT", "550 we do not want this"),
    "rcptmany": ("RCPT", "550-5.7.1 We have thought\r\n550-5.7.1 about this for long:\r\n550 5.7.1 no"),
    "rcptclose": ("RCPT", "421 4.3.2 Closing"),
    "rcptdrop": ("RCPT", None),
    "mail4": ("MAIL", "451 4.7.1 Greylisted"),
    "mail5": ("MAIL", "550 5.7.1 Sender refused"),
    "data4": ("DATA", "451 4.3.0 No data now"),
    "data5": ("DATA", "554 5.7.0 No data ever"),
    "datadrop": ("DATA", None),
    "dot4": ("DOT", "452 4.3.1 Disk full"),
    "dot5": ("DOT", "554 5.6.0 Content refused"),
    "dotplain": ("DOT", "554 go away"),
    "dotdrop": ("DOT", None),
    "later": ("RCPT", "450 4.3.2 Not yet"),
}

# The next hops that are not as good as the first: last number of the address, and what is different.
HOSTS = {
    1: {},
    21: {"without": ("DSN",)},
    22: {"ehlo": "502 5.5.1 Not implemented"},
    23: {"size": 2000},
    24: {"without": ("8BITMIME", "SMTPUTF8")},
    25: {"without": ("SMTPUTF8",)},
    26: {"without": ("PIPELINING",)},
    31: {"greeting": "421 4.3.2 Too busy"},
    32: {"greeting": "554 5.7.1 Not for you"},
    33: {"greeting": None},
    34: {"silent": True},
    35: {"ehlo": "550 5.7.1 Go away", "helo": "550 5.7.1 Go away"},
}

_GOOD = {
    "DATA": "354 End data with a dot", "MAIL": "250 2.1.0 Ok", "QUIT": "221 2.0.0 Bye", "RCPT": "250 2.1.5 Ok",
}  # fmt: skip


class Host:
    """One next hop's way of answering."""

    def __init__(self, number, directory, *, without=(), size=10240000, greeting="220 sink ESMTP", **options):
        self._number = number
        self._directory = directory
        self._greeting = greeting
        self._silent = options.get("silent", False)
        words = [word for word in EXTENSIONS if word not in without]
        words = [f"SIZE {size}" if word.startswith("SIZE") else word for word in words if word != "CHUNKING"]
        lines = [f"sink{number}.example", *words]
        hello = "\r\n".join(f"250{'-' if line != lines[-1] else ' '}{line}" for line in lines)
        self._hello = {"EHLO": options.get("ehlo", hello), "HELO": options.get("helo", f"250 sink{number}.example")}

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader, writer):
        if self._silent:
            await reader.read()
        if not self._say(writer, self._greeting):
            return
        mail, recipients = "", []
        while True:
            line = (await reader.readuntil(b"\n")).decode("utf-8", "surrogateescape").rstrip("\r\n")
            verb = line[:4].upper()
            asked = " ".join(recipients) if verb == "DATA" else line
            answer = self._hello.get(verb) or self._answer(verb, asked, _GOOD.get(verb, "250 2.0.0 Ok"))
            if verb == "DATA" and not recipients:
                answer = "554 5.5.1 No valid recipients"
            if verb == "MAIL":
                mail, recipients = line, []
            elif answer and verb + answer[0] == "RCPT2":
                recipients.append(line)
            elif answer and verb + answer[0] == "DATA3":
                self._say(writer, answer)
                answer = self._answer("DOT", asked, "250 2.0.0 Ok: queued as 12345ABCDE")
                self._keep(answer, mail, recipients, await _content(reader))
            if not self._say(writer, answer) or verb == "QUIT" or answer.startswith("421"):
                return

    def _say(self, writer, answer):
        if answer is None:
            return False
        writer.write(answer.encode() + b"\r\n")
        return True

    def _answer(self, verb, line, good):
        words = re.split(r"[.+ ]", " ".join(re.findall(r"<([^>]*)@[^@>]*>", line)))
        for word, (when, answer) in ANSWERS.items():
            if when == verb and word in words:
                if word == "later" and (self._directory / "released").exists():
                    continue
                return answer
        return good

    def _keep(self, answer, mail, recipients, content):
        if not answer or answer[0] != "2":
            return
        entry = {"host": self._number, "mail": mail, "recipients": recipients, "content": content}
        with (self._directory / "received").open("a") as file:
            file.write(json.dumps(entry) + "\n")


async def _content(reader):
    lines = []
    while (line := await reader.readuntil(b"\n")) != b".\r\n":
        lines.append(line.removeprefix(b".").decode("utf-8", "surrogateescape"))
    return "".join(lines)


async def serve(address, directory):
    """Serves until standard input ends."""
    prefix = address.rpartition(".")[0]
    zone = {(name, kind): values for name, kind, values in json.loads((directory / "zone.json").read_text())}
    server = DnsServer(zone, (address, 53))
    for number, options in HOSTS.items():
        host = Host(number, directory, **options)
        await asyncio.start_server(host.serve, f"{prefix}.{number}", 25, limit=1 << 24)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def main(address, directory):
    prefix = address.rpartition(".")[0]
    # 40 answers nobody: connections there are refused.
    for number in [*HOSTS, 40]:
        if number != 1:
            subprocess.run(["ip", "addr", "add", f"{prefix}.{number}/24", "dev", "bridge"], check=True)
    asyncio.run(serve(address, Path(directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
