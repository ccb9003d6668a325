"""Opening the queue directory as main.cf names it, for the roles that work there."""

from pyfix.conf.config import Config
from pyfix.spool.directories import ALL_DIRECTORIES, Spool


def open_queue(conf: Config) -> Spool:
    """queue_directory, hashed as main.cf says. Raises ConfigError where it cannot be used."""
    return _open(conf, conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))


def open_whole_queue(conf: Config, names: tuple[str, ...] = ALL_DIRECTORIES, *, hashed: bool = False) -> Spool:
    """queue_directory, with the directories that were missing. Raises ConfigError where it cannot be used.

    ``names`` are the directories that the role can see. Not ``hashed``: new files go into incoming/ and maildrop/
    themselves, where every setting finds them.
    """
    spool = open_queue(conf) if hashed else _open(conf, (), 1)
    try:
        spool.make_directories(names)
    except OSError as error:
        spool.close()
        raise conf.error("queue_directory", f"{spool.root}/{error.filename}: {error.strerror}") from None
    return spool


def _open(conf: Config, hashed: tuple[str, ...], depth: int) -> Spool:
    root = conf.text("queue_directory")
    try:
        return Spool(root, hashed, depth)
    except OSError as error:
        raise conf.error("queue_directory", f"{root}: {error.strerror}") from None
