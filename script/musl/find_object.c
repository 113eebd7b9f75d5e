/*
 * Owns the one function that gcc's unwinder, as Debian builds it for glibc, misses in musl: which object an
 * address belongs to, and where its table for unwinding is. A gcc that was built for musl does without.
 */

#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <string.h>

/* as in glibc's dlfcn.h */
struct object {
    unsigned long long  flags;
    void               *start;
    void               *end;
    struct link_map    *map;
    void               *eh_frame;
    unsigned long long  reserved[7];
};

struct search {
    uintptr_t       address;
    struct object  *found;
};

static int
look(struct dl_phdr_info *info, size_t size, void *data)
{
    int             i, inside;
    uintptr_t       start, end;
    struct search  *search;
    struct object   object;

    search = data;
    inside = 0;
    memset(&object, 0, sizeof(object));

    for (i = 0; i < info->dlpi_phnum; i++) {
        start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        end = start + info->dlpi_phdr[i].p_memsz;

        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
            object.eh_frame = (void *) start;

        } else if (info->dlpi_phdr[i].p_type == PT_LOAD
                   && search->address >= start && search->address < end)
        {
            inside = 1;
            object.start = (void *) start;
            object.end = (void *) end;
        }
    }

    if (!inside || !object.eh_frame) {
        return 0;
    }

    *search->found = object;
    return 1;
}

int
_dl_find_object(void *address, struct object *found)
{
    struct search  search = { (uintptr_t) address, found };

    return dl_iterate_phdr(look, &search) ? 0 : -1;
}
