"""dataknobs-fsm: its source and sink in a plain loop, or its StreamContext."""

import os
import sys

from dataknobs_fsm.streaming import FileStreamSink, FileStreamSource, StreamConfig, StreamContext

src, mode, par = sys.argv[1], sys.argv[2], int(sys.argv[3])
s, k = FileStreamSource(src), FileStreamSink(os.path.join(os.environ["O"], "t.jsonl"))
if mode == "sync":
    for c in s:
        if not k.write_chunk(c):
            sys.exit("write failed")
    k.flush()
    k.close()
    s.close()
else:
    ctx = StreamContext(StreamConfig(parallelism=par))
    m = ctx.stream(s, k)
    print(ctx.status, m)
