/* error.c: the names and the family tree of error classes. */
#include "../moonbase.h"

static const struct {
  const char *name;
  mb_class parent;
} classes[MB_CLASS_COUNT] = {
#define CLASS_ENTRY(constant, lua_name, above) [constant] = {lua_name, above},
    MB_CLASSES(CLASS_ENTRY)
#undef CLASS_ENTRY
};

const char *mb_class_name(mb_class class)
{
  return classes[class].name;
}

mb_class mb_class_parent(mb_class class)
{
  return classes[class].parent;
}

bool mb_class_is(mb_class class, mb_class ancestor)
{
  while (class != ancestor && classes[class].parent != class)
    class = classes[class].parent;
  return class == ancestor;
}

const char *mb_error_text(const mb_error *error, mb_field field, size_t *size)
{
  *size = error->fields[field].size;
  return *size != 0 ? error->room + error->fields[field].at : NULL;
}
