/* glibc's heap for a process whose threads wait more than they allocate. By default each thread gets a heap of its own,
   which keeps what it once had, and once a large piece is freed all later ones of its size come from these heaps and
   leave holes there: 44 MB resident in place of 37 with 5,000 idle containers. In C, because only mallopt(3) or the
   environment can say so, and Rust reaches neither before main without unsafe code. */

#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>

/* Whoever runs the process knows better. */
static int is_set(const char *name) { return getenv(name) != NULL; }

__attribute__((constructor)) static void set_heap(void)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    if (tunables != NULL && strstr(tunables, "glibc.malloc.") != NULL)
        return;
    if (!is_set("MALLOC_ARENA_MAX"))
        mallopt(M_ARENA_MAX, 1);
    if (!is_set("MALLOC_MMAP_THRESHOLD_"))
        mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}
#endif
