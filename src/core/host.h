/*
 * host.h: what the core gives to drivers and uses itself: memory, time, errors.
 */
#ifndef MB_CORE_HOST_H
#define MB_CORE_HOST_H

#include "../driver.h"

/* The one host of the process.  Its memory and clock can be replaced before the
 * first use (mb_set_allocator, mb_set_clock); after that it is constant. */
extern mb_host mb__host;

/* The time that is timeout_ns from now; MB_NEVER when no clock gets there. */
int64_t mb__deadline_ns(int64_t timeout_ns);

/* The time as it was at most some milliseconds ago, for a fraction of the
 * price: to be compared with itself. */
int64_t mb__coarse_ns(void);

/* True where the time is that of the system, and not a replacement. */
bool mb__clock_is_real(void);

/* A zeroed array, or NULL: out of memory, or count * size is no size. */
void *mb__allocate_zeroed(size_t count, size_t size);

/* A terminated copy of size bytes, or NULL.  The caller releases it. */
char *mb__copy_text(const char *text, size_t size);

/* Releases a terminated text, or NULL, of which nothing may stay behind in
 * memory that is used again. */
void mb__release_secret(char *text);

/* Reports that there is no memory; answers MB_ERROR. */
MB_CHECKED MB_COLD mb_status mb__out_of_memory(mb_error *error);

/* The length of the longest start of text that is at most limit bytes and does
 * not end inside a UTF-8 character. */
size_t mb__utf8_cut(const char *text, size_t size, size_t limit);

#endif
