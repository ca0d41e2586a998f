/* Loaded before a program that qemu-user runs: tells it that it has PROCESSORS processors, and passes over a socket
 * option that qemu-user does not know (IP_BIND_ADDRESS_NO_PORT, which saves ports and changes nothing else).
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *processors)
{
    const char *count = getenv("PROCESSORS");
    (void)pid;
    memset(processors, 0, bytes);
    for (int n = 0; n < (count ? atoi(count) : 1); n++)
        CPU_SET_S(n, bytes, processors);
    return 0;
}

int setsockopt(int socket, int level, int name, const void *value, socklen_t bytes)
{
    if (level == IPPROTO_IP && name == IP_BIND_ADDRESS_NO_PORT)
        return 0;
    return syscall(SYS_setsockopt, socket, level, name, value, bytes);
}
