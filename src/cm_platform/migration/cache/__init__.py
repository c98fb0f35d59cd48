"""Moving a tenant's cache from one backend to another, while it works.

A cache may forget and must not lie: what was deleted, replaced or cleared must not come back,
and a counter must not lose or gain. So it moves by a protocol of its own, and not by storage's.

**A value counts on one side only, and is current wherever it counts.** While values may be on
both sides, whoever writes a key first takes it from the side that is not the authority, and
only then writes it to the authority. A writer that could not take it away has not written. It
follows, without any order among writers and without a clock:

- A side may hold less than it did, never something that is outdated. A read may ask either:
  the authority first, and on a miss the other side, on which the value was left.
- A change of sides copies nothing and waits for nobody's write. Neither does a way back.
- A delete that was answered is one on both sides. Where the side on which values were left
  shows a delete late, a tombstone on the authority stands in front of it for as long.

**No intents are needed.** In storage an intent says that two copies may differ until somebody
has compared them. Here there are no two copies that count: if a process dies between its two
steps, the value is gone from one side and the other was not written, which for a cache is a
miss. A writer that the change of sides overtook sees it afterwards, by its lease, and writes
again on the side that is right; until it has, its write is not answered. If it dies before, it
was never answered, and may take effect at any time. What cannot be done twice (`increment`,
`compare_and_set`) is `ambiguous` then.

**Stages.** See `standing.py` for what a process does in each, and why neighbours are safe.

**Old values in the target** of before never count: `flush` raises the target's generations
above any that they can have been written under, and nothing below is handed out, whatever the
store says. An entry is judged by the generation of the side that it is on, and handed out
under that of the authority, so what was left behind stays warm.
"""
