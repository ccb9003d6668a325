"""How many recipients of large messages may be in memory: the pools of the transports.

A message may have ``recipient_minimum`` recipients in memory, whatever else there is, and as many as the slots that
its jobs hold. The slots of a transport, ``limit`` of them, go to the oldest of its jobs whose message has not been
read to its end, all that are free. When it has been, those that its recipients do not need go to the next such job.
A job that has preempted another is not the oldest and gets half of what is left of ``extra`` slots, so that it is not
read a few recipients at a time.

The first recipients of a message are read before its transports are known. Then the limit is that for all mail
together, less what is in memory, and no slots are needed. So there are never more recipients in memory than
qmgr_message_recipient_limit, qmgr_message_recipient_minimum for each active message, and the slots of the
transports in use.

Source: Postfix's SCHEDULER_README, "Dealing with memory resource limits".
"""

from heapq import heappop, heappush

from pyfix.schedule.job import Job
from pyfix.schedule.limits import Recipients
from pyfix.schedule.message import Message


class Pool:
    """The recipient slots of a transport."""

    __slots__ = ("_free", "_line", "limits")

    def __init__(self, limits: Recipients) -> None:
        self.limits = limits
        # below 0 where extra slots are in use
        self._free = limits.limit
        # a heap by the age of jobs; those whose message has been read are void
        self._line: list[tuple[int, Job]] = []

    def change(self, limits: Recipients) -> None:
        """New limits."""
        self._free += limits.limit - self.limits.limit
        self.limits = limits

    def enter(self, job: Job) -> None:
        """A job whose message has not been read to its end."""
        if job.pooled:
            return
        job.pooled = True
        if self._line and job.message.sequence < self._line[0][0]:
            # The older one gets what the other does not use.
            _, other = self._line[0]
            message = other.message
            self.take_back(other, message.recipient_slots - message.unsettled - message.reserved)
        heappush(self._line, (job.message.sequence, job))

    def give(self) -> Message | None:
        """Gives what is free to whose turn it is: the message that may read more by that."""
        while self._line and not self._line[0][1].message.more:
            heappop(self._line)
        if not self._line or self._free <= 0:
            return None
        _, job = self._line[0]
        self._lend(job, self._free)
        return job.message

    def lend_extra(self, job: Job) -> None:
        """Slots for a job that has preempted another."""
        self._lend(job, max(0, (self.limits.extra + min(self._free, 0) + 1) // 2))

    def _lend(self, job: Job, slots: int) -> None:
        self._free -= slots
        job.recipient_slots += slots
        job.message.recipient_slots += slots

    def take_back(self, job: Job, spare: int) -> int:
        """Takes slots that the job's message can spare: how many."""
        taken = max(0, min(job.recipient_slots, spare))
        self._lend(job, -taken)
        return taken
