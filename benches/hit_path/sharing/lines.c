/* A plugin for qemu-user that simulates coherent caches: one for each thread, unbounded, MESI on lines of 64 bytes.
 *
 * It counts transfers between threads whose name begins with the argument `between`: one of them reads a line that another
 * one of them wrote since it last had it, or writes one that others of them hold. Those are what a second core costs a
 * program, and what no cache of its own can help. The accesses of the kernel are not seen, and those of other threads,
 * such as one that tells the time, weigh nothing. At the end it writes, to the file that the argument `out` names, how many
 * threads have that name, and a line for each instruction that had transfers: reads, writes, address, symbol.
 *
 * The declarations are those of QEMU's plugin interface, version 1, as far as they are used
 * (https://www.qemu.org/docs/master/devel/tcg-plugins.html).
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, LOADS_AND_STORES = 3 };
typedef void on_memory(unsigned thread, qemu_plugin_meminfo_t, uint64_t address, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_memory *, int flags, int kinds, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { LINE = 6, STRIPES = 4096, INSTRUCTIONS = 1 << 20, LINES = 1 << 22, TURN = 500 };

/* Who has a line, and who wrote it last: one bit for each thread. */
struct line {
    uint64_t number;
    uint64_t holders;
    uint64_t writer;
};

struct instruction {
    _Atomic uint64_t address;
    const char *symbol;
    _Atomic uint64_t reads, writes;
};

static struct line lines[LINES];
static pthread_spinlock_t stripes[STRIPES];
static struct instruction instructions[INSTRUCTIONS];
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;
static const char *out, *between;
/* The threads that are counted. */
static _Atomic uint64_t counted;

static uint64_t spread(uint64_t value) { return (value * 0x9E3779B97F4A7C15u) >> 20; }

static void access_line(uint64_t number, uint64_t self, bool store, struct instruction *by)
{
    /* A stripe is a run of places of its own, so that its lock guards all that a search looks at. */
    uint64_t hash = spread(number);
    uint64_t stripe = hash % STRIPES, room = LINES / STRIPES;
    struct line *first = lines + stripe * room;
    pthread_spin_lock(&stripes[stripe]);
    uint64_t at = (hash / STRIPES) % room, looked = 0;
    while (first[at].number != number && first[at].number != 0) {
        at = (at + 1) % room;
        if (++looked == room) {
            fputs("lines: more lines than there is room for\n", stderr);
            abort();
        }
    }
    struct line *line = first + at;
    uint64_t ours = atomic_load_explicit(&counted, memory_order_relaxed);
    uint64_t others = ours & self ? ours & ~self : 0;
    if (line->number == 0)
        *line = (struct line){.number = number};
    if (store) {
        if (line->holders & others)
            atomic_fetch_add_explicit(&by->writes, 1, memory_order_relaxed);
        line->holders = line->writer = self;
    } else {
        if (!(line->holders & self) && line->writer & others)
            atomic_fetch_add_explicit(&by->reads, 1, memory_order_relaxed);
        line->holders |= self;
    }
    pthread_spin_unlock(&stripes[stripe]);
}

static void on_access(unsigned thread, qemu_plugin_meminfo_t info, uint64_t address, void *by)
{
    static _Thread_local unsigned accesses;
    uint64_t self = UINT64_C(1) << (thread % 64);
    access_line(address >> LINE, self, qemu_plugin_mem_is_store(info), by);
    if (++accesses % TURN == 0) {
        /* A thread gets its name a little after it began. */
        char name[16];
        prctl(PR_GET_NAME, name);
        if (!strncmp(name, between, strlen(between)))
            atomic_fetch_or_explicit(&counted, self, memory_order_relaxed);
        /* More threads than processors: short turns, so that they meet as if each had its own. */
        sched_yield();
    }
}

static struct instruction *instruction_at(uint64_t address, const char *symbol)
{
    uint64_t at = spread(address) % INSTRUCTIONS;
    pthread_mutex_lock(&adding);
    while (instructions[at].address != address && instructions[at].address != 0)
        at = (at + 1) % INSTRUCTIONS;
    if (instructions[at].address == 0) {
        instructions[at].symbol = symbol ? strdup(symbol) : "?";
        instructions[at].address = address;
    }
    pthread_mutex_unlock(&adding);
    return instructions + at;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t n = 0; n < qemu_plugin_tb_n_insns(block); n++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, n);
        qemu_plugin_register_vcpu_mem_cb(
            instruction, on_access, NO_REGISTERS, LOADS_AND_STORES,
            instruction_at(qemu_plugin_insn_vaddr(instruction), qemu_plugin_insn_symbol(instruction)));
    }
}

static void on_exit_(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    FILE *file = fopen(out, "w");
    if (!file) {
        perror(out);
        return;
    }
    fprintf(file, "%d\n", __builtin_popcountll(counted));
    for (size_t n = 0; n < INSTRUCTIONS; n++) {
        struct instruction *it = instructions + n;
        if (it->reads || it->writes)
            fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIx64 " %s\n", it->reads, it->writes, it->address, it->symbol);
    }
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments)
{
    (void)info;
    for (int n = 0; n < count; n++) {
        if (!strncmp(arguments[n], "out=", 4))
            out = strdup(arguments[n] + 4);
        if (!strncmp(arguments[n], "between=", 8))
            between = strdup(arguments[n] + 8);
    }
    if (!out || !between) {
        fputs("lines: out=FILE or between=NAME is missing\n", stderr);
        return -1;
    }
    for (size_t n = 0; n < STRIPES; n++)
        pthread_spin_init(&stripes[n], PTHREAD_PROCESS_PRIVATE);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_, NULL);
    return 0;
}
