/*
 * memory_files.h: the database file of a test of memory, and its copy, in a
 * folder of their own.
 */
#ifndef MB_SPEC_MEMORY_FILES_H
#define MB_SPEC_MEMORY_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];
static char path[96], copy_path[96], url[128];

/* Makes the folder where files cost the least, and the names; false: nowhere.
 */
static inline bool make_folder(void)
{
  static const char *const places[] = {"/dev/shm", "/tmp"};
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    (void)snprintf(folder, sizeof folder, "%s/moonbase-XXXXXX", places[i]);
    if (mkdtemp(folder) == NULL)
      continue;
    (void)snprintf(path, sizeof path, "%s/app.db", folder);
    (void)snprintf(copy_path, sizeof copy_path, "%s/copy.db", folder);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    return true;
  }
  return false;
}

/* Removes both files, and what SQLite keeps beside them. */
static inline void remove_files(void)
{
  static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
  char name[128];
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
    (void)snprintf(name, sizeof name, "%s%s", path, ends[i]);
    (void)unlink(name);
    (void)snprintf(name, sizeof name, "%s%s", copy_path, ends[i]);
    (void)unlink(name);
  }
}

#endif
