"""What becomes of mail whose delivery met an error of the system.

The law: what the owner of the mailbox must put right, and what waiting will not cure, bounces; what somebody else will
put right, or may already have, is tried again. Postfix bounces on every error that it does not know; here the unknown
ones, and those of access, which an administrator can mend before the mail is too old, are tried again.

=====================================  =======  ========================================================
EDQUOT, EFBIG                          5.2.2    the mailbox is full (mailbox_size_limit, quota)
EISDIR, ELOOP, EMLINK, ENAMETOOLONG,   5.2.0    what stands there is no mailbox: a link, a directory,
ENOTDIR, ENXIO                                  a pipe
EAGAIN, ESTALE                         4.2.0    locked, or changed under our hands
EACCES, EPERM                          4.2.0    not allowed
all others, ENOSPC, EROFS, EIO ...     4.3.0    trouble of this system
=====================================  =======  ========================================================

Source: Postfix's mbox_open(3), mbox_dsn; RFC 3463.
"""

import errno

_STATUS = {
    errno.EDQUOT: "5.2.2",
    errno.EFBIG: "5.2.2",
    errno.EISDIR: "5.2.0",
    errno.ELOOP: "5.2.0",
    errno.EMLINK: "5.2.0",
    errno.ENAMETOOLONG: "5.2.0",
    errno.ENOTDIR: "5.2.0",
    errno.ENXIO: "5.2.0",
    errno.EAGAIN: "4.2.0",
    errno.ESTALE: "4.2.0",
    errno.EACCES: "4.2.0",
    errno.EPERM: "4.2.0",
}


def mailbox_status(number: int) -> str:
    """The RFC 3463 status of an error number that a mailbox gave."""
    return _STATUS.get(number, "4.3.0")
