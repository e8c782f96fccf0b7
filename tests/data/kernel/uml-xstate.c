/*
 * Lets User-Mode Linux run on processors whose register state is larger than it knows (AMX: 11 KiB).
 *
 * It reads and writes the state of its processes with PTRACE_GETREGSET and PTRACE_SETREGSET into a buffer of a
 * fixed size; the host takes a state only whole, and the first write fails with EFAULT. Loaded before libc, this
 * `ptrace` reads and writes the whole state, and hands on as much as the buffer holds: the guest's programs use
 * nothing beyond.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

/* Not on the stack, which is that of a kernel thread; one thread alone traces. */
static char whole[64 << 10];

static long xstate(int request, pid_t pid, struct iovec *theirs)
{
    struct iovec ours = { whole, sizeof whole };
    long got = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &ours);
    if (got < 0)
        return got;
    if (theirs->iov_len > ours.iov_len)
        theirs->iov_len = ours.iov_len;
    if (request == PTRACE_GETREGSET) {
        memcpy(theirs->iov_base, whole, theirs->iov_len);
        return got;
    }
    memcpy(whole, theirs->iov_base, theirs->iov_len);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &ours);
}

long ptrace(enum __ptrace_request request, ...)
{
    static long (*next)(enum __ptrace_request, ...);
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if ((request == PTRACE_GETREGSET || request == PTRACE_SETREGSET) && (long)address == NT_X86_XSTATE)
        return xstate(request, pid, data);
    if (!next)
        next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    return next(request, pid, address, data);
}
