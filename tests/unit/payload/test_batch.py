"""Drivers compiled together: bits, messages, headers and status are those of each alone.

batch.sh, batch-cc.sh and forkcc.c are tried with every gcc at hand. What a single compile may
depend on is in test_batch_cases.py, what it says in test_batch_messages.py, and texts that seem
something else in test_batch_text.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compilers import compilers
from tests.support.together import Files, compare, drivers

pytestmark = pytest.mark.parametrize("cc", compilers())

# A header with events, read again and again by define_trace.h, as the kernel's are.
TRACE: Files = {
    "include/tracepoint.h": """\
#ifndef TRACEPOINT_H
#define TRACEPOINT_H
struct tracepoint { const char *name; int enabled; void (*probe)(void *entry); };
struct trace_event_call { const char *name; struct tracepoint *point; const char *format; };
#define PARAMS(args...) args
#define TP_PROTO(args...) args
#define TP_ARGS(args...) args
#endif
#ifndef TRACE_EVENT
#define TRACE_EVENT(name, proto, args, entry, format) \\
    extern struct tracepoint __tracepoint_##name; \\
    static inline void trace_##name(proto) \\
    { if (__tracepoint_##name.enabled) __tracepoint_##name.probe((void *)args); }
#endif
""",
    "include/trace/define_trace.h": """\
#ifdef CREATE_TRACE_POINTS
#undef CREATE_TRACE_POINTS
#include <kernel.h>
#undef TRACE_EVENT
#define TRACE_EVENT(name, proto, args, entry, format) \\
    static const char __tpstrtab_##name[] \\
        __attribute__((section("__tracepoints_strings"))) = #name; \\
    struct tracepoint __tracepoint_##name __attribute__((used, section("__tracepoints"))) = \\
        { __tpstrtab_##name, 0, NULL };
#define TRACE_INCLUDE_1(file) __stringify(file.h)
#define TRACE_INCLUDE TRACE_INCLUDE_1(TRACE_INCLUDE_FILE)
#define TRACE_HEADER_MULTI_READ
#include TRACE_INCLUDE
#include <trace/stages.h>
#undef TRACE_HEADER_MULTI_READ
#define CREATE_TRACE_POINTS
#endif
""",
    "include/trace/stages.h": """\
#undef TRACE_EVENT
#define TRACE_EVENT(name, proto, args, entry, format) struct trace_event_raw_##name { entry };
#include TRACE_INCLUDE
#undef TRACE_EVENT
#define TRACE_EVENT(name, proto, args, entry, format) \\
    static void perf_trace_##name(void *data, proto) \\
    { printk(format, sizeof(struct trace_event_raw_##name)); } \\
    void *__perf_##name = perf_trace_##name; \\
    static struct trace_event_call event_##name __attribute__((used)) = \\
        { #name, &__tracepoint_##name, format }; \\
    static struct trace_event_call *__event_##name \\
        __attribute__((used, section("_ftrace_events"))) = &event_##name;
#include TRACE_INCLUDE
""",
    "drv/trace-drv.h": """\
#undef TRACE_SYSTEM
#define TRACE_SYSTEM drv
#if !defined(TRACE_DRV_H) || defined(TRACE_HEADER_MULTI_READ)
#define TRACE_DRV_H
#include <tracepoint.h>
TRACE_EVENT(drv_xid, TP_PROTO(long xid), TP_ARGS(xid), long xid; short minor;, "xid %ld")
TRACE_EVENT(drv_reset, TP_PROTO(long why), TP_ARGS(why), int why;, "reset %ld")
#endif
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace-drv
#include <trace/define_trace.h>
""",
}


def test_events_of_a_driver_are_all_there(cc: str, tmp_path: Path) -> None:
    files = TRACE | drivers(
        points='@#define CREATE_TRACE_POINTS\n#include "trace-drv.h"\n',
        user='@#include "trace-drv.h"\nvoid f(void) { trace_drv_xid(1); }\n',
        other='@#include "trace-drv.h"\nvoid g(void) { trace_drv_reset(2); }\n',
    )
    made = compare(tmp_path, cc, files)
    assert made.together == 3
    points = made.outcomes["points"].object
    assert points is not None
    for name in (
        b"_ftrace_events",
        b"__tracepoints",
        b"perf_trace_drv_xid",
        b"event_drv_reset",
    ):
        assert name in points


def test_a_field_of_bits_is_written_as_widely_as_in_the_whole(cc: str, tmp_path: Path) -> None:
    fields = "".join(f"    long field{i};\n" for i in range(92))
    header = f"""\
struct big {{
{fields}    unsigned state:17;
    unsigned char users;
    void *more, *others;
    unsigned long tail;
}};
"""
    set_state = "void set_state(struct big *p, unsigned v) { p->state = v; }\n"
    files = {"include/big.h": header} | drivers(
        first="@#include <big.h>\n" + set_state,
        second="@#include <big.h>\nint users(struct big *p) { return p->users; }\n",
    )
    made = compare(tmp_path, cc, files)
    assert made.together == 2
    # 16 bits and one more: a store of 32 would write back an old ``users``.
    store = bytes.fromhex("6689b7e0020000")  # movw %si, 736(%rdi)
    assert store in (made.outcomes["first"].object or b"")


def test_sources_have_more_in_common_than_can_be_nested(cc: str, tmp_path: Path) -> None:
    common = "@" + "".join(f"#define M{i} {i}\n" for i in range(300))
    files = drivers(
        one=common + "int one = M7 + __LINE__;\n",
        two=common + "int two = M299 + __LINE__;\n",
        three=common.replace("M250 250", "M250 1") + "int three = M250;\n",
    )
    assert compare(tmp_path, cc, files).together == 3


@pytest.mark.parametrize("jobs", [1, 3, 40])
def test_any_number_of_jobs(jobs: int, cc: str, tmp_path: Path) -> None:
    sources = {}
    for i in range(24):
        path = "".join(f'#include "{"lr"[i >> bit & 1]}.h"\n' for bit in range(5))
        sources[f"s{i}"] = f"@{path}int s{i} = N + __COUNTER__;\n"
    files = drivers(**sources) | {
        "drv/l.h": "#define N 1\nint UNIQUE(l);\n",
        "drv/r.h": "#undef N\n#define N 2\nint UNIQUE(r);\n",
    }
    files["drv/l.h"] = "#undef N\n#define N 1\nint UNIQUE(l);\n"
    assert compare(tmp_path, cc, files, jobs=jobs).together == 24
