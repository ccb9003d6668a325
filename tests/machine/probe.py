"""What a process may: tried, not asked. Prints JSON; runs as a unit's ExecStart= in a test machine (test_sandbox.py).

usage: probe.py FILE

FILE has {"sockets": {NAME: ADDRESS}, "tcp": {NAME: [HOST, PORT]}, "processes": {NAME: PID}}.

An ADDRESS that begins with ``@`` is abstract. Standard library only: the machine's Python runs it.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

OTHER_UID = 1000
ELSEWHERE = ("/lib", "/lib64", "/proc", "/sys", "/usr")
"""What is looked at by itself; /lib is /usr/lib."""

SYSCALLS = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "init_module": 175, "io_setup": 206, "io_uring_setup": 425, "perf_event_open": 298,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "init_module": 105, "io_setup": 0, "io_uring_setup": 425, "perf_event_open": 241,
    },
}[platform.machine()]  # fmt: skip

PTRACE_SEIZE = 0x4206  # which does not stop it
PR_CAPBSET_READ, PR_CAP_AMBIENT, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP = 23, 47, 39, 21

_libc = ctypes.CDLL(None, use_errno=True)


def possible(attempt, *arguments):
    """Whether an attempt ends without an error."""
    try:
        attempt(*arguments)
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return True


def in_child(attempt, *arguments):
    """Whether an attempt is possible, made by a process of its own: it may change what the process is."""
    child = os.fork()
    if child == 0:
        os._exit(0 if possible(attempt, *arguments) else 1)
    return os.waitpid(child, 0)[1] == 0


def call(function, *arguments):
    """Calls a function of the C library. Raises OSError."""
    ctypes.set_errno(0)
    result = getattr(_libc, function)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), function)
    return result


def system_call(name, *arguments):
    return call("syscall", SYSCALLS[name], *arguments)


# Files.


def walk(top, skip=()):
    """The directories and the files below a directory, as far as they can be listed."""
    directories, files = [top], []
    for directory in directories:
        with suppress(OSError):
            for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
                if entry.path in skip or entry.is_symlink():
                    continue
                (directories if entry.is_dir() else files).append(entry.path)
    return directories, files


def can_open(path, flags):
    def attempt():
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))

    return possible(attempt)


def can_write_into(directory):
    def attempt():
        with tempfile.NamedTemporaryFile(dir=directory):
            pass

    return possible(attempt)


def is_socket(path):
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def look(top, skip=()):
    """What can be listed, read and written below a directory."""
    directories, files = walk(top, skip)
    files = [path for path in files if not is_socket(path)]
    return {
        "listed": [path for path in directories if possible(os.listdir, path)],
        "read": [path for path in files if can_open(path, os.O_RDONLY)],
        "written files": [path for path in files if can_open(path, os.O_WRONLY)],
        "written directories": [path for path in directories if can_write_into(path)],
    }


def kernel_files():
    """What of the kernel's own file systems can be written, processes left aside."""
    processes = [f"/proc/{pid}" for pid in visible_processes()] + ["/proc/self", "/proc/thread-self"]
    return [path for top in ("/proc", "/sys") for path in walk(top, processes)[1] if can_open(path, os.O_WRONLY)]


# Programs.


def run(path, **options):
    subprocess.run([path], check=True, **options)


def execute_copy(directory):
    path = shutil.copy("/usr/bin/true", Path(directory, "copy"))
    try:
        run(path)
    finally:
        Path(path).unlink()


def execute_memory_file():
    descriptor = os.memfd_create("copy")
    os.write(descriptor, Path("/usr/bin/true").read_bytes())
    run(f"/proc/self/fd/{descriptor}", pass_fds=[descriptor])


def map_writable_and_executable():
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def make_memory_executable():
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    call("mprotect", ctypes.c_void_p(address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC)


def executes(writable):
    attempts = {
        "/usr": any(possible(run, program) for program in ("/usr/bin/true", "/usr/bin/sh")),
        "files it wrote": any(possible(execute_copy, directory) for directory in writable),
        "memory files": possible(execute_memory_file),
        "memory it wrote": possible(map_writable_and_executable) or possible(make_memory_executable),
    }
    return [name for name, done in attempts.items() if done]


# Sockets.


def connect(address, kind):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(5)
        sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)


def can_connect(address):
    return any(possible(connect, address, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))


def can_make(family):
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    return any(possible(lambda kind=kind: socket.socket(family, kind).close()) for kind in kinds)


def network(targets):
    def to(host, port):
        socket.create_connection((host, port), timeout=2).close()

    def raw():
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()

    found = [family.name for family in socket.AddressFamily if can_make(family)]
    found += [f"connect {name}" for name, target in targets.items() if possible(to, *target)]
    found += ["listen"] if possible(lambda: socket.create_server(("127.0.0.1", 0)).close()) else []
    return found + (["raw sockets"] if possible(raw) else [])


# Other processes.


def visible_processes():
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return []


def can_peek(pid):
    """Whether another's memory can be read: EFAULT says that only the address was wrong."""
    buffer = ctypes.create_string_buffer(1)
    here, there = ((ctypes.c_size_t * 2)(address, 1) for address in (ctypes.addressof(buffer), 0))
    ctypes.set_errno(0)
    _libc.process_vm_readv(pid, here, 1, there, 1, 0)
    return ctypes.get_errno() == errno.EFAULT


def powers_over(pid):
    attempts = {
        "see": pid in visible_processes(),
        "read the environment of": can_open(f"/proc/{pid}/environ", os.O_RDONLY),
        "write the memory of": can_open(f"/proc/{pid}/mem", os.O_RDWR),
        "read the memory of": can_peek(pid),
        "enter the files of": possible(os.listdir, f"/proc/{pid}/root/"),
        "trace": in_child(call, "ptrace", PTRACE_SEIZE, pid, None, None),
        "signal": possible(os.kill, pid, 0),
    }
    return [name for name, done in attempts.items() if done]


# The machine.


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def with_file(directories, attempt):
    """Makes an attempt on a new file in one of the directories."""
    with tempfile.NamedTemporaryFile(dir=directories[0] if directories else "/") as file:
        attempt(file.name)


def make_device(directories):
    path = Path(directories[0] if directories else "/", "device")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    path.unlink()


def load_module():
    """Any complaint about the module itself says that it might."""
    try:
        system_call("init_module", b"", 0, b"")
    except OSError as error:
        if error.errno in {errno.EPERM, errno.ENOSYS}:
            raise


def mount():
    call("mount", b"tmpfs", b"/usr/share", b"tmpfs", 0, None)


def share_memory():
    call("shmctl", call("shmget", 0, 4096, 0o1600), 0, None)


def powers(directories):
    """What it can do to the machine, and to itself."""
    attributes = ctypes.create_string_buffer(b"\1\0\0\0\x40", 128)  # a software event: the clock
    array = ctypes.create_string_buffer(b"\2\0\0\0\4\0\0\0\4\0\0\0\1", 128)  # of one element
    attempts = {
        "become another user": (become, OTHER_UID),
        "become root": (become, 0),
        "give files away": (with_file, directories, lambda path: os.chown(path, OTHER_UID, -1)),
        "make setuid files": (with_file, directories, lambda path: os.chmod(path, 0o4755)),
        "make devices": (make_device, directories),
        "mount": (mount,),
        "change its root": (os.chroot, "/usr"),
        "make a user namespace": (call, "unshare", 0x10000000),
        "make a mount namespace": (call, "unshare", 0x20000),
        "make a network namespace": (call, "unshare", 0x40000000),
        "load a module": (load_module,),
        "set the host name": (socket.sethostname, socket.gethostname()),
        "set the clock": (lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),),
        "run in real time": (lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),),
        "raise its priority": (os.nice, -1),
        "raise its limits": (resource.setrlimit, resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)),
        "change its personality": (call, "personality", 8),
        "keep keys": (system_call, "add_key", b"user", b"probe", b"x", 1, -3),
        "use AIO": (system_call, "io_setup", 1, ctypes.create_string_buffer(8)),
        "use io_uring": (system_call, "io_uring_setup", 1, ctypes.create_string_buffer(256)),
        "use BPF": (system_call, "bpf", 0, array, 128),
        "measure performance": (system_call, "perf_event_open", attributes, 0, -1, -1, 0),
        "share memory": (share_memory,),
    }
    return [name for name, attempt in attempts.items() if in_child(*attempt)]


# Who it is.


def capabilities():
    """The five sets, as numbers."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    call("capget", header, data)
    names = ("effective", "permitted", "inheritable")
    sets = {name: data[i] | data[i + 3] << 32 for i, name in enumerate(names)}

    def of(*option):
        return sum(1 << number for number in range(64) if _libc.prctl(*option, number, 0, 0, 0) == 1)

    return sets | {"bounding": of(PR_CAPBSET_READ), "ambient": of(PR_CAP_AMBIENT, 1)}


def identity():
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "capabilities": capabilities(),
        "no new privileges": _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        "seccomp": _libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0),
        "umask": os.umask(0o077),
    }


def descriptors():
    """What was inherited: a list of descriptors, and the names of those that systemd handed in."""
    found = [number for number in range(4096) if possible(os.fstat, number)]
    names = os.environ.get("LISTEN_FDNAMES", "")
    return {"open": found, "listeners": names.split(":") if names else []}


def report(given):
    inherited = descriptors()  # before anything is opened
    files = look("/", ELSEWHERE)
    directories = files["written directories"]
    return {
        "identity": identity(),
        "descriptors": inherited,
        "environment": sorted(os.environ),
        "top": sorted(os.listdir("/")),
        "files": files,
        "written in /usr": [path for path in walk("/usr")[0] if can_write_into(path)],
        "kernel": kernel_files(),
        "executes": executes(directories),
        "calls": [name for name, address in given["sockets"].items() if can_connect(address)],
        "network": network(given["tcp"]),
        "processes": [pid for pid in visible_processes() if pid != os.getpid()],
        "over": {name: powers_over(pid) for name, pid in given["processes"].items()},
        "powers": powers(directories),
    }


def tell_ready():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


if __name__ == "__main__":
    print(json.dumps(report(json.loads(Path(sys.argv[1]).read_text()))), flush=True)
    if "NOTIFY_SOCKET" in os.environ:
        tell_ready()
