"""``make machine``: boots a machine with the package for a person, and says how to enter it. Enter ends it."""

import shlex
import sys

from machine import package
from machine.machine import Machine, Network


def main():
    deb = package.build()
    network = Network()
    try:
        with Machine(package.tree(), network=network) as machine:
            machine.install(deb)
            print(f"A Debian 13 with {deb.name} runs at {machine.address}, in the network namespace {network.name}.")
            print(f"Enter it:  sudo {shlex.join(machine.enter())} /bin/bash -l")
            print(f"Its files: {machine.root}")
            print("Enter here ends it.", flush=True)
            sys.stdin.readline()
    finally:
        network.close()


if __name__ == "__main__":
    main()
