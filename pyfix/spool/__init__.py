"""Floor 5. The queue on disk: which files exist tells everything that the mail system must remember.

A message is one file, named by its queue ID, in one of these directories of queue_directory. Its state is the
directory and the file's mode; nothing else is needed to go on after a crash.

=========  =====  ==================================================  =================================================
directory  mode   state                                               guarantee
=========  =====  ==================================================  =================================================
maildrop   0600   postdrop is writing it, or died                     nobody was promised anything
maildrop   0700   submitted; sendmail may have exited 0               whole and durable; pickup takes it once, or twice
                                                                      if it dies between cleanup's answer and removal
incoming   0600   cleanup is writing it, or died                      nobody was promised anything; start-up removes it
incoming   0700   **accepted**, once cleanup's fsync returned         whole and durable
active     0700   qmgr works on it                                    as incoming; start-up moves it back there
active     0600   delivered to every recipient                        no attempt is made any more; start-up removes it
deferred   0700   waits until its mtime                               as incoming; why is in defer/, fsynced before
hold       0700   waits for the administrator (postsuper -H)          as incoming
corrupt    0400   cannot be understood; the administrator's           never touched again
none              delivered or bounced to every recipient, or         the last delivery or the notice was durable before
                  deleted by postsuper
=========  =====  ==================================================  =================================================

The instant of acceptance is the return of ``DurableFile.settle`` (pyfix.system.durable). Before it there is a file
without name in the eyes of the others: mode 0600. After it there is a whole file under its final name.

A recipient is done when the R record that names it has become a D record, and all are when the file in active/ has the
mode 0600. Such marks are not fsynced: a crash may cost one more delivery and never one less.

``bounce/ID``, ``defer/ID`` and ``trace/ID`` are logs about a message; they are no mail. A log without its message
is left over from a crash between their removals and means nothing.

``flush/NAME`` are hints where to look for mail to a destination (pyfix.spool.flush_log). Without them no mail is lost,
and none is late.

=====================================  ========================================================================
a crash between                        leaves, and start-up (``Spool.repair``) does
=====================================  ========================================================================
open and commit                        incoming/ID, 0600, unlocked: removed
commit and the reply                   incoming/ID, 0700: delivered, though the client will send it again
rename incoming → active and back      one of both names: active → incoming
delivery and mark                      an R record: delivered once more
defer log and rename                   a log line too many; active → incoming: tried again earlier
bounce log and mark                    a failed recipient, logged twice at worst
mark of the last and removal           active/ID, 0600: removed; or no R record left: removed by qmgr when it opens the
                                       message
the notice's commit and removal        a second notice at worst
=====================================  ========================================================================

Deferred messages and their logs are kept in 16 subdirectories, named by the first hexadecimal digit of the ID's
microseconds (hash_queue_names, hash_queue_depth). Files that another setting has put elsewhere are found too.

Files here are Postfix's, byte for byte in layout: the spool of a stopped Postfix can be taken over, and given back.
"""
