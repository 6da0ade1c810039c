/*
 * driver.h: all that Moonbase's core and a database driver share.
 *
 * A driver is one constant mb_driver: a table of functions over one client
 * library.  It includes this header and the library's, links against nothing of
 * Moonbase, and is handed what it needs from the core as an mb_host.  What is
 * hard (waiting, threads, time-outs, caching, placeholder syntax, pooling,
 * nesting of transactions, retries) is the core's; a driver translates.
 * doc/drivers.md explains the table member by member and walks the protocols of
 * three databases through it; the conformance suite runs for any driver.
 *
 * THREADS
 *  1. Never are two functions called at once for one connection.
 *  2. They may be called from different threads one after the other; the core
 *     orders the calls.  What a library keeps per thread belongs into
 *     thread_enter and thread_leave, which the core calls on each of its own.
 *     One that calls make_way may end on another thread than it has begun on.
 *  3. cancel may be called at any time, from any thread, for as long as its
 *     handle has not been released.  It shares no lock with a running call.
 *  4. No function is called while a lock of the core is held.
 *  5. A driver starts no threads, sets no signal handlers, no locale.
 *  6. The functions of mb_host may be called only inside a driver call (now_ns
 *     and the memory functions: from any thread).
 *  7. Nothing is sent on a connection before a cancel on it has returned.
 *  8. After a fork the child calls only abandon.
 *
 * WAITING
 *  A function with an mb_op may wait.  It starts and answers MB_DONE, MB_ROW,
 *  MB_ERROR, or MB_WAIT with op->wait filled; then resume is called, as often
 *  as it answers MB_WAIT, and its last answer is the function's.  Out pointers
 *  given to the starting call, and op, stay valid until then; parameters until
 *  the statement is finished.  A library that can only block answers no MB_WAIT
 *  and looks at op (mb_op_stopped) wherever the library lets it; where it does
 *  not, its connectors say so (blocks).
 *  The thread may have others to serve (op->in_loop): then a call that blocks
 *  makes way for them (mb_host.make_way); calls of a connector that blocks are
 *  made elsewhere from the start, unless they wait from inside (awaits).
 *
 * MEMORY
 *  Pointers that go into a driver are borrowed for the call, unless said
 *  otherwise.  Pointers that come out belong to the driver and stay valid as
 *  their comment says.  Every allocation may fail: the call answers MB_ERROR
 *  with MB_RESOURCE and nothing is leaked or half-done.
 */
#ifndef MB_DRIVER_H
#define MB_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Raised when a member changes its meaning or place.  Members may be added at
 * the end of a struct that carries its size without raising it. */
#define MB_DRIVER_ABI 1u

#if defined(__GNUC__)
#  define MB_CHECKED __attribute__((warn_unused_result))
#  define MB_PRINTF(at, first) __attribute__((format(printf, at, first)))
/* Of functions for what goes wrong, and of conditions that hardly ever hold or
 * lead to what takes long: the code for it stands apart, so that the rest fits
 * into the processor's cache of instructions. */
#  define MB_COLD __attribute__((cold))
#  define MB_RARELY(condition) __builtin_expect(!!(condition), 0)
#else
#  define MB_CHECKED
#  define MB_PRINTF(at, first)
#  define MB_COLD
#  define MB_RARELY(condition) (condition)
#endif

/* What a call answers.  MB_OK is another name for "done". */
typedef enum mb_status {
  MB_DONE,  /* ended; no row, or no further one */
  MB_ROW,   /* a row is there, or rows follow */
  MB_WAIT,  /* op->wait says for what; go on with resume */
  MB_ERROR, /* the mb_error is filled */
  MB_OK = MB_DONE
} mb_status;

/* --- Values ------------------------------------------------------------- */

/* What an mb_value holds.  From MB_DECIMAL to MB_OTHER the value is carried as
 * text in the form that doc/drivers.md gives for each. */
typedef enum mb_tag {
  MB_NULL,
  MB_BOOL,   /* as.integer: 0 or 1 */
  MB_INT64,  /* as.integer */
  MB_UINT64, /* as.natural: only values above INT64_MAX */
  MB_DOUBLE, /* as.real */
  MB_TEXT,   /* as.bytes, UTF-8 as the database sent it */
  MB_BLOB,   /* as.bytes */
  MB_DECIMAL,
  MB_DATE,
  MB_TIME,
  MB_TIMESTAMP,
  MB_TIMESTAMPTZ,
  MB_INTERVAL,
  MB_JSON,
  MB_UUID,
  MB_OTHER,
  MB_ARRAY,    /* as.array */
  MB_CALLBACK, /* as.callback; only as an argument of mb_driver.command */
  MB_TAG_COUNT
} mb_tag;

typedef struct mb_value mb_value;

/* An array of the database: row-major elements of any number of dimensions. */
typedef struct mb_array {
  mb_tag element;   /* the tag of all elements that are not null */
  uint32_t n_dims;  /* 0: empty */
  uint32_t dims[6]; /* elements along each dimension */
  const mb_value *elements;
} mb_array;

/* A function of the program that the database calls (SQLite's functions,
 * aggregates, collations), only during a driver call, on its thread. */
typedef struct mb_callback mb_callback;

struct mb_value {
  mb_tag tag;
  union {
    int64_t integer;
    uint64_t natural;
    double real;
    struct {
      const char *data; /* not terminated; may be NULL only when size is 0 */
      size_t size;
    } bytes;
    const mb_array *array;
    const mb_callback *callback;
  } as;
};

/* --- Errors ------------------------------------------------------------- */

/* The classes of an error: X(constant, name in Lua, constant of its parent).
 * What each means is in doc/guide.md. */
#define MB_CLASSES(X)                                                         \
  X(MB_DATABASE_ERROR, "DatabaseError", MB_DATABASE_ERROR)                    \
  X(MB_CONNECTOR_VALIDATION, "ConnectorValidationError", MB_DATABASE_ERROR)   \
  X(MB_CONNECTIVITY, "ConnectivityError", MB_DATABASE_ERROR)                  \
  X(MB_CONNECTION_LOST, "ConnectionLostError", MB_CONNECTIVITY)               \
  X(MB_POOL_TIMEOUT, "PoolTimeoutError", MB_DATABASE_ERROR)                   \
  X(MB_ENGINE, "EngineError", MB_DATABASE_ERROR)                              \
  X(MB_CONSTRAINT, "ConstraintError", MB_ENGINE)                              \
  X(MB_PERMISSION, "PermissionError", MB_ENGINE)                              \
  X(MB_SERIALIZATION, "SerializationError", MB_ENGINE)                        \
  X(MB_READ_ONLY, "ReadOnlyError", MB_ENGINE)                                 \
  X(MB_SYNTAX, "SyntaxError", MB_ENGINE)                                      \
  X(MB_DATA, "DataError", MB_ENGINE)                                          \
  X(MB_TIMEOUT, "TimeoutError", MB_ENGINE)                                    \
  X(MB_CANCELED, "CanceledError", MB_ENGINE)                                  \
  X(MB_RESOURCE, "ResourceError", MB_ENGINE)                                  \
  X(MB_ROW_COUNT, "RowCountError", MB_DATABASE_ERROR)                         \
  X(MB_UNSUPPORTED, "UnsupportedError", MB_DATABASE_ERROR)                    \
  X(MB_STORE, "StoreError", MB_DATABASE_ERROR)                                \
  X(MB_DRIVER_FAULT, "DriverError", MB_DRIVER_FAULT)                          \
  X(MB_MISSING_IMPLEMENTATION, "MissingImplementationError", MB_DRIVER_FAULT) \
  X(MB_USAGE, "UsageError", MB_USAGE)

typedef enum mb_class {
#define MB_CLASS_CONSTANT(constant, name, parent) constant,
  MB_CLASSES(MB_CLASS_CONSTANT)
#undef MB_CLASS_CONSTANT
      MB_CLASS_COUNT
} mb_class;

/* What follows from an error, independent of its class.  The pool looks at
 * these only, so that a wrong class cannot bring a dead connection back. */
enum mb_consequence {
  MB_CONNECTION_DEAD = 1 << 0,  /* the connection is of no further use */
  MB_TRANSACTION_DEAD = 1 << 1, /* the transaction must be rolled back */
  MB_RETRYABLE = 1 << 2,        /* the whole transaction may be run again */
  MB_SENT = 1 << 3,             /* bytes may have reached the server */
  MB_COMMIT_UNKNOWN = 1 << 4,   /* nobody knows whether COMMIT took place */
  MB_STALE_STATEMENT = 1 << 5,  /* nothing was run: prepare again */
  MB_TIMED_OUT = 1 << 6,        /* set by the core: its time was over */
  MB_RAISED = 1 << 7,           /* set by a callback, which keeps the error */
  MB_SESSION_ONLY = 1 << 8 /* with MB_CONNECTION_DEAD: the server ended this
                              session, and says nothing of others */
};

/* The part of a combined request that failed: a prepare, begin, reset or
 * close_statement that travelled with the statement may be reported by it. */
typedef enum mb_origin {
  MB_ORIGIN_STATEMENT,
  MB_ORIGIN_PREPARE,
  MB_ORIGIN_BEGIN,
  MB_ORIGIN_RESET,
  MB_ORIGIN_CLOSE
} mb_origin;

typedef enum mb_constraint_kind {
  MB_CONSTRAINT_NONE,
  MB_CONSTRAINT_UNIQUE,
  MB_CONSTRAINT_PRIMARY_KEY,
  MB_CONSTRAINT_FOREIGN_KEY,
  MB_CONSTRAINT_NOT_NULL,
  MB_CONSTRAINT_CHECK,
  MB_CONSTRAINT_EXCLUSION
} mb_constraint_kind;

/* The texts that an error carries. */
typedef enum mb_field {
  MB_MESSAGE, /* what happened, in the words of the database */
  MB_DETAIL,  /* may hold values of the user: never printed by itself */
  MB_HINT,    /* what to do */
  MB_CODE,    /* SQLSTATE, or the name of SQLite's extended result code */
  MB_CONSTRAINT_NAME,
  MB_SCHEMA,
  MB_TABLE,
  MB_COLUMNS, /* one or more names, a zero byte between two */
  MB_FIELD_COUNT
} mb_field;

#define MB_ERROR_ROOM 2048

/*
 * An error, owned by the caller, mostly on its stack.  All texts are inside, so
 * that running out of memory can be reported like anything else; what does not
 * fit is cut at a character.  A function writes it only when it answers
 * MB_ERROR, through the functions of mb_host, and never reads it before.
 */
typedef struct mb_error {
  mb_class class;
  mb_origin origin;
  unsigned flags;  /* of mb_consequence */
  int native_code; /* the library's number; 0 where there is none */
  size_t position; /* in the text that was sent: byte from 1; 0 unknown */
  int64_t entry;   /* of a batch, from 1; 0 where it is none */
  int64_t row;     /* of a bulk load, from 1; 0 where it is none */
  mb_constraint_kind constraint_kind;
  struct {
    uint16_t at;   /* in room */
    uint16_t size; /* 0: absent */
  } fields[MB_FIELD_COUNT];
  uint16_t used;
  char room[MB_ERROR_ROOM];
} mb_error;

/* --- Waiting ------------------------------------------------------------ */

#define MB_NEVER INT64_MAX /* a deadline that does not come */

enum mb_readiness { MB_READABLE_FD = 1, MB_WRITABLE_FD = 2 };

enum mb_wait_flags {
  /* Nothing runs at the database (a notification is awaited): when the
   * operation is to stop, nobody is asked, and resume is called at once with
   * ready 0.  A call that waits again after that is ended as any other. */
  MB_WAIT_IDLE = 1,
  /* What runs is to be stopped by cancel (MB_CANCEL_QUERY) while the call goes
   * on: finish wants it, and cannot block.  Once for a call. */
  MB_WAIT_ASK = 2
};

/* For what a call waits.  All of it is written with each MB_WAIT. */
typedef struct mb_wait {
  int fd;              /* -1: a pause */
  unsigned events;     /* of mb_readiness */
  unsigned flags;      /* of mb_wait_flags */
  int64_t deadline_ns; /* the driver's own, as of one host of several; or
                          MB_NEVER */
  uint32_t fd_serial;  /* moves whenever fd names another file than before */
} mb_wait;

enum mb_stop { MB_GO_ON, MB_STOP_TIMEOUT, MB_STOP_CANCEL };

/* The bounds of one operation, kept by the core. */
typedef struct mb_op {
  bool bounded;        /* false: it has no deadline and nobody can stop it */
  bool in_loop;        /* others wait for the thread meanwhile: see make_way.
                          It lies where a core that does not know it has zero */
  int64_t deadline_ns; /* of mb_host.now_ns, or MB_NEVER */
  atomic_int stop;     /* of mb_stop; set from any thread */
  mb_wait wait;        /* filled by a call that answers MB_WAIT */
} mb_op;

/* --- What the core gives to a driver ------------------------------------ */

/* Something that a session told without being asked. */
typedef enum mb_event_kind {
  MB_EVENT_NOTICE,       /* name: severity, text: message */
  MB_EVENT_NOTIFICATION, /* name: channel, text: payload, number: process */
  MB_EVENT_PARAMETER     /* name: parameter, text: its new value */
} mb_event_kind;

typedef struct mb_event {
  mb_event_kind kind;
  const char *name;
  const char *text;
  const char *code; /* of a notice: SQLSTATE; or NULL */
  int64_t number;
} mb_event;

typedef struct mb_host {
  uint32_t abi;  /* MB_DRIVER_ABI of the core */
  uint32_t size; /* sizeof(mb_host) of the core */

  /* As malloc, realloc and free; any of the first two may answer NULL. */
  void *(*allocate)(size_t size);
  void *(*reallocate)(void *memory, size_t size);
  void (*release)(void *memory);

  /* Monotonic time.  sleep_ns waits at most that long; others may be served
   * meanwhile, so no lock may be held. */
  int64_t (*now_ns)(void);
  void (*sleep_ns)(int64_t duration_ns);

  /* Starts an error anew: class and message; all else absent.  Answers
   * MB_ERROR, so that a failing path is one line. */
  mb_status (*fail)(mb_error *error, mb_class class, const char *format, ...)
      MB_PRINTF(3, 4);
  /* Adds a text to a started error; MB_COLUMNS may be added several times. */
  void (*error_set)(
      mb_error *error, mb_field field, const char *text, size_t size);

  /* owner is the pointer that connect was given. */
  void (*event)(void *owner, const mb_event *event);

  /* Called inside a call whose op->in_loop is true: at once (what follows
   * blocks, or is known to take long), or now and then in the course of much
   * work.  When it is time it comes back on another thread, with everything on
   * the stack where it was, and the call goes on and ends there.  Nothing that
   * belongs to a thread may be held: no lock, and no address of a thread's own
   * variable.  From then on op tells of a stop, too. */
  void (*make_way)(mb_op *op, bool at_once);

  /* For a library that can wait only inside of its calls: called in one whose
   * op->in_loop is true, with op->wait filled, it has others use the thread and
   * comes back with what is ready (MB_READABLE_FD, MB_WRITABLE_FD), or with 0
   * at the deadline of op->wait.  A call that has to end meanwhile is ended by
   * cancel; at last its socket, shut down, is ready. */
  unsigned (*await)(mb_op *op);

  /* The file of the authorities that this system trusts, in PEM: that of
   * SSL_CERT_FILE, or where systems keep it.  NULL: none is found. */
  const char *(*authorities)(void);
} mb_host;

/* True when an operation has to end: told so, or past its deadline. */
static inline bool mb_op_stopped(const mb_host *host, const mb_op *op)
{
  if (atomic_load_explicit(&op->stop, memory_order_relaxed) != MB_GO_ON)
    return true;
  return op->deadline_ns != MB_NEVER && host->now_ns() >= op->deadline_ns;
}

struct mb_callback {
  void *context;
  /* A scalar function, or the comparison of a collation (two texts; the result
   * is an integer below, equal to or above 0).  result is borrowed until the
   * next call or the end of the driver call. */
  mb_status (*call)(void *context, const mb_value *arguments, size_t n,
      mb_value *result, mb_error *error);
  /* An aggregate: step takes a row's arguments into group, an integer that
   * names the group (never 0), finish ends the group and gives its value (of
   * group 0: the value without any row).  finish with a NULL result only ends
   * it.  NULL for the other kinds. */
  mb_status (*step)(void *context, int64_t group, const mb_value *arguments,
      size_t n, mb_error *error);
  mb_status (*finish)(
      void *context, int64_t group, mb_value *result, mb_error *error);
  /* Called once, when the database no longer knows the callback.  A command
   * that has failed has not taken it. */
  void (*release)(void *context);
};

/* --- Connecting --------------------------------------------------------- */

typedef enum mb_option_kind {
  MB_OPTION_TEXT,
  MB_OPTION_INTEGER, /* decimal digits */
  MB_OPTION_SECONDS, /* a decimal number of at least 0 */
  MB_OPTION_BOOLEAN, /* true or false */
  MB_OPTION_LIST,    /* may be given several times; a list in Lua */
  MB_OPTION_SECRET   /* as text, and never shown */
} mb_option_kind;

/* An option that a driver takes beside those of the core. */
typedef struct mb_option_spec {
  const char *name;
  mb_option_kind kind;
  const char *words; /* the allowed ones, a blank between two; NULL: any */
} mb_option_spec;

typedef struct mb_option {
  const char *name;
  const char *value; /* terminated, and without a zero byte inside */
} mb_option;

/* What open_connector found out.  Strings live as long as the connector. */
typedef struct mb_connector_info {
  const char *url;      /* for people: no password in it */
  const char *host;     /* NULL where there is none */
  const char *database; /* or path */
  int port;             /* 0 where there is none */
  int max_connections;  /* 0: no limit */
  bool blocks; /* calls block their thread and do not look at op: the core ends
                  them by cancel, and connects on a thread of its own */
  bool awaits; /* of these, calls on a connection whose op->in_loop is true wait
                  by mb_host.await instead */
  const char *file;     /* the database is this file, with locks of this
                           process; NULL: it is not */
  bool is_the_database; /* the open connections together are: none is closed for
                         * what was set in its session */
  /* For each host that connect tries, in order: the name that the core is to
   * look up before; NULL where there is nothing to look up, as for a socket.  A
   * numeric address may be named too, and costs nothing. */
  const char *const *lookups;
  size_t n_lookups;
} mb_connector_info;

/* A numeric address; a name may have several. */
typedef struct mb_address {
  size_t lookup;    /* whose: from 0 */
  const char *text; /* terminated */
} mb_address;

/* One attempt to connect. */
typedef struct mb_connect_args {
  void *owner;          /* to be handed to mb_host.event */
  const char *password; /* instead of the connector's; NULL: that one */
  /* What the core has found for the connector's lookups, in their order; they
   * live until connect has ended.  A name that is missing here has no address:
   * its host is left out.  One host at least can be tried. */
  const mb_address *addresses;
  size_t n_addresses;
} mb_connect_args;

typedef enum mb_validity {
  MB_DEAD,
  MB_ALIVE,
  MB_READABLE /* something came that nobody asked for: call consume */
} mb_validity;

typedef enum mb_transaction_state {
  MB_TRANSACTION_NONE,
  MB_TRANSACTION_ACTIVE,
  MB_TRANSACTION_FAILED, /* only a rollback will do */
  MB_TRANSACTION_UNKNOWN
} mb_transaction_state;

typedef enum mb_reset_mode {
  MB_RESET_FULL /* as a new session, as far as the database can */
} mb_reset_mode;

enum mb_reset_lost { MB_LOST_STATEMENTS = 1, MB_LOST_SETTINGS = 2 };

/* --- Capability --------------------------------------------------------- */

/* How the placeholders of a text reach the library. */
typedef enum mb_placeholder {
  MB_PLACEHOLDER_NATIVE,   /* ?, $1 and :name as they stand, numbered in order
                              of their first occurrence */
  MB_PLACEHOLDER_QUESTION, /* ? each, in order */
  MB_PLACEHOLDER_DOLLAR /* $1, $2, …: those of the user, or for ? and :name a
                           new number for each occurrence */
} mb_placeholder;

/* Where a statement of a script may hold semicolons of its own. */
typedef enum mb_compound {
  MB_COMPOUND_NONE,
  MB_COMPOUND_TRIGGER, /* SQLite: CREATE [TEMP] TRIGGER … ; END */
  MB_COMPOUND_ATOMIC,  /* PostgreSQL: BEGIN ATOMIC … END */
  MB_COMPOUND_ROUTINE  /* MySQL: CREATE PROCEDURE … and DELIMITER lines */
} mb_compound;

/* What a connected database takes for strings, names and comments. */
typedef struct mb_lexical {
  bool backslash_strings;    /* '\'' is one quote */
  bool escape_strings;       /* E'\'' is one quote; PostgreSQL's rules of words,
                                numbers and lines go with it */
  bool double_quote_strings; /* "…" is a string (with backslashes if those) */
  bool backtick_names;       /* `…` */
  bool bracket_names;        /* […] outside a subscript */
  bool hash_comments;        /* # to the end of the line */
  bool dash_needs_space;     /* --x is no comment, -- x is */
  bool nested_comments;      /* comments inside comments */
  bool versioned_comments;   /* the inside of !-comments is SQL */
  bool dollar_quotes;        /* $tag$ … $tag$ */
  bool colon_casts;          /* x::int, and array slices x[1:2]; then @ is an
                                operator, else @x a variable */
  bool question_operators;   /* ?, ?| and ?& are operators in some places */
  mb_compound compound;
  mb_placeholder placeholder;
} mb_lexical;

enum mb_isolation {
  MB_ISOLATION_DEFAULT = 0,
  MB_READ_UNCOMMITTED = 1 << 0,
  MB_READ_COMMITTED = 1 << 1,
  MB_REPEATABLE_READ = 1 << 2,
  MB_SERIALIZABLE = 1 << 3
};

enum mb_mode {
  MB_MODE_DEFAULT = 0,
  MB_DEFERRED = 1 << 0,
  MB_IMMEDIATE = 1 << 1,
  MB_EXCLUSIVE = 1 << 2
};

/* The logical types of the schema layer, in the order of storage_types. */
#define MB_STORAGE_TYPES(X)            \
  X(MB_STORE_INTEGER8, "integer8")     \
  X(MB_STORE_INTEGER16, "integer16")   \
  X(MB_STORE_INTEGER32, "integer32")   \
  X(MB_STORE_INTEGER64, "integer64")   \
  X(MB_STORE_UNSIGNED64, "unsigned64") \
  X(MB_STORE_FLOAT, "float")           \
  X(MB_STORE_DOUBLE, "double")         \
  X(MB_STORE_BOOLEAN, "boolean")       \
  X(MB_STORE_TEXT, "text")             \
  X(MB_STORE_BLOB, "blob")             \
  X(MB_STORE_UUID, "uuid")             \
  X(MB_STORE_DECIMAL, "decimal")       \
  X(MB_STORE_DATE, "date")             \
  X(MB_STORE_TIME, "time")             \
  X(MB_STORE_DATETIME, "datetime")     \
  X(MB_STORE_TIMESTAMP, "timestamp")   \
  X(MB_STORE_JSON, "json")             \
  X(MB_STORE_ENUM, "enum")             \
  X(MB_STORE_LIST, "list")

enum mb_storage_type {
#define MB_STORAGE_CONSTANT(constant, name) constant,
  MB_STORAGE_TYPES(MB_STORAGE_CONSTANT)
#undef MB_STORAGE_CONSTANT
      MB_STORAGE_TYPE_COUNT
};

/*
 * What the connected database can do; of this server and version, not of the
 * brand.  Lives as long as its connection.
 */
typedef struct mb_capability {
  uint32_t size; /* sizeof(mb_capability) of the driver */
  const char *server_version;
  mb_lexical lexical;

  bool sql;
  bool returning;
  bool upsert;
  bool select_for_update;
  bool savepoints;
  bool read_only_transactions;
  bool deferrable_transactions;
  bool transactional_ddl;
  bool auto_increment;
  bool multiple_open_rows; /* other statements may run beside open rows */
  bool rows_block_writes;  /* a write outside a transaction may fail beside open
                              rows of the same connection */
  bool pipeline;
  bool non_blocking;
  bool nulls_first; /* in an ascending order, by default */
  bool scan;
  bool backward_pagination;

  unsigned isolation_levels;  /* of mb_isolation */
  unsigned transaction_modes; /* of mb_mode */

  unsigned max_identifier_length; /* in bytes; 0: no limit */
  unsigned max_parameters;        /* of a statement */
  unsigned statement_cache;       /* statements kept a connection by default */

  /* Types that the database has as such, beside the tags below. */
  bool native_json;
  bool native_jsonb;
  bool native_uuid;
  bool native_timestamp;
  bool native_date;
  bool native_time;
  bool native_decimal;
  bool native_enum;
  bool native_array;
  bool native_varchar;

  unsigned parameter_types; /* bits 1 << mb_tag that a parameter may have */
  unsigned result_types;    /* bits 1 << mb_tag that a result may have */
  const char *storage_types[MB_STORAGE_TYPE_COUNT]; /* NULL: none */

  const char *bulk_insert; /* "copy", "array", "values" or "prepared" */

  /* What the database can change in place. */
  bool alter_column_type;
  bool alter_column_properties_atomically;
  bool rename_column;
  bool drop_column;
  bool add_constraint; /* of every kind */

  char identifier_quote; /* doubled inside a name */

  /* Pieces of words, in small letters, by which a text that reads or writes
   * rows may leave something in its session all the same, as a set_config or a
   * lock; ends with NULL.  NULL: there are none.  Read where there is a
   * reset. */
  const char *const *session_words;

  /* What stands behind an INSERT that is to leave out rows which break a unique
   * constraint, with :c for the first of its columns; such rows are not among
   * the affected ones of execute_many.  NULL: there is no such thing. */
  const char *insert_skip;
  /* What the database is called, where one driver has several; NULL: as the
   * driver says. */
  const char *database_name;
} mb_capability;

/* --- Statements --------------------------------------------------------- */

typedef struct mb_column {
  const char *name; /* terminated, UTF-8 */
  const char *type; /* the database's word in lower case, without a length;
                       NULL: none or unknown */
  const char *table;
  mb_tag tag;      /* what its values are; MB_NULL: unknown, or mixed */
  signed nullable; /* 1, 0, or -1: unknown */
} mb_column;

/*
 * What a run gives.  The driver fills the first part when it answers the start
 * of a run or of a further result, the second part when that ends (MB_DONE).
 * Columns stay the same from the first row to the last, and live until the next
 * run, the next result, or the closing of the statement.  The core hands over a
 * struct with affected = -1 and the rest of the second part zeroed; the first
 * part is as the run before has left it.
 */
typedef struct mb_result {
  const mb_column *columns;
  size_t n_columns;
  uint32_t columns_serial; /* moves whenever a run has other columns than the
                              one before */
  bool beside; /* rows come in trips of their own (a server's cursor): between
                  two fetches other requests may be sent */

  int64_t affected;  /* matched rows; -1: it does not apply */
  int64_t last_id;   /* the id that this run generated */
  bool has_last_id;  /* false: it generated none */
  bool more_results; /* call next_result */
  unsigned warnings;
  char tag[32]; /* the command's name as the server gave it; may be empty */
} mb_result;

/* What prepare found out. */
typedef struct mb_prepared {
  size_t consumed;      /* bytes of the text up to the end of the first
                           statement; 0: unknown, or all */
  int n_parameters;     /* -1: unknown */
  bool reads_only;      /* it changes nothing, as far as the library knows */
  bool changes_session; /* it leaves settings behind that others would see */
  bool returns_rows;    /* it has columns */
  bool empty;           /* the text holds no statement; there is no mb_stmt */
} mb_prepared;

typedef struct mb_execute_options {
  int64_t fetch_size; /* rows a trip through a server's cursor; 0: no cursor */
} mb_execute_options;

typedef enum mb_finish_mode {
  MB_FINISH_DRAIN, /* let the statement do all its work */
  MB_FINISH_CANCEL /* a plain read: may be cancelled when much is left */
} mb_finish_mode;

/* Rows that own their bytes, to cross threads. */
typedef struct mb_batch {
  const mb_value *values; /* n_rows times n_columns */
  size_t n_rows;
  size_t n_columns;
  void *owner; /* the driver's */
} mb_batch;

typedef struct mb_begin {
  enum mb_isolation isolation;
  enum mb_mode mode;
  bool read_only;
  bool deferrable;
} mb_begin;

enum mb_cancel_level {
  MB_CANCEL_QUERY, /* ask the database; may block: called on a helper thread */
  MB_CANCEL_SOCKET /* end the call at once, at the price of the connection;
                      never blocks */
};

/* Completed by each driver as it likes. */
typedef struct mb_driver_connector mb_driver_connector;
typedef struct mb_driver_conn mb_driver_conn;
typedef struct mb_driver_stmt mb_driver_stmt;
typedef struct mb_driver_cancel mb_driver_cancel;

/* --- The table ---------------------------------------------------------- */

/*
 * Functions marked ? may be NULL; what the core does then is said.  All others
 * must be there.  "may wait" means: see WAITING above.
 */
typedef struct mb_driver {
  uint32_t abi;  /* MB_DRIVER_ABI; checked before anything else is read */
  uint32_t size; /* sizeof(mb_driver); the core reads NULL beyond it */

  const char *name;                     /* "sqlite" */
  const char *const *schemes;           /* of URLs; NULL at the end */
  const char *database_name;            /* for people: "SQLite" */
  const char *(*library_version)(void); /* of the library that is running */
  const mb_option_spec *options;        /* ends with a NULL name */

  /* FACTORY */

  /* ? Once in a process, before anything else.  May be called again after it
   * failed. */
  mb_status (*library_init)(const mb_host *host, mb_error *error);
  /* ? On each thread that the core starts, around its calls. */
  void (*thread_enter)(void);
  void (*thread_leave)(void);

  /* Checks options (validated for kind already) and keeps what connect needs.
   * No I/O.  A connector is immutable and used by many threads at once.  An
   * error (MB_CONNECTOR_VALIDATION) names the option and never quotes a
   * secret.  host lives as long as the process. */
  mb_status (*open_connector)(const mb_host *host, const mb_option *options,
      size_t n, mb_driver_connector **out, mb_connector_info *info,
      mb_error *error);
  void (*close_connector)(mb_driver_connector *connector);
  /* ? Drops and recreates the database, empty; nobody is connected.  May wait;
   * NULL: the schema layer drops what it finds. */
  mb_status (*reset_db)(
      mb_driver_connector *connector, mb_op *op, mb_error *error);

  /* CONNECTION */

  /* May wait.  *out is set at once, before the first MB_WAIT, so that cancel
   * and close reach an attempt; after MB_ERROR the core calls close if *out is
   * not NULL. */
  mb_status (*connect)(mb_driver_connector *connector,
      const mb_connect_args *args, mb_driver_conn **out, mb_op *op,
      mb_error *error);
  /* Ends the connection and frees it, whatever its state, without waiting for
   * anybody past deadline_ns.  All statements have been closed before. */
  void (*close)(mb_driver_conn *conn, int64_t deadline_ns);
  /* In a child after fork: frees what it can without sending a byte or
   * touching a lock of the parent's. */
  void (*abandon)(mb_driver_conn *conn);

  /* No I/O but a poll without time-out; under a microsecond. */
  mb_validity (*is_valid)(mb_driver_conn *conn);
  /* ? Reads what has come, never waits.  Required where is_valid answers
   * MB_READABLE. */
  mb_status (*consume)(mb_driver_conn *conn, mb_error *error);
  /* ? The cheapest round trip.  May wait.  NULL: it cannot fail by itself. */
  mb_status (*ping)(mb_driver_conn *conn, mb_op *op, mb_error *error);
  /* ? Makes the session as new; *lost gets mb_reset_lost bits.  May wait, or
   * travel with the next request.  NULL: the core closes a connection that was
   * changed. */
  mb_status (*reset)(mb_driver_conn *conn, mb_reset_mode mode, unsigned *lost,
      mb_op *op, mb_error *error);
  const mb_capability *(*capability)(mb_driver_conn *conn);
  /* What the session says, not what was called; a begin that has not been sent
   * yet counts as active.  No I/O. */
  mb_transaction_state (*transaction_state)(mb_driver_conn *conn);
  /* ? Goes on with the call that answered MB_WAIT.  ready: mb_readiness bits,
   * 0 when op->wait.deadline_ns has come.  Required where MB_WAIT is ever
   * answered. */
  mb_status (*resume)(
      mb_driver_conn *conn, unsigned ready, mb_op *op, mb_error *error);

  /* STATEMENT */

  /* Prepares the first statement of the text.  May wait, or travel with the
   * first execute.  *out is set unless prepared->empty. */
  mb_status (*prepare)(mb_driver_conn *conn, const char *sql, size_t size,
      mb_driver_stmt **out, mb_prepared *prepared, mb_op *op, mb_error *error);
  /* ? Asks for parameters and columns before the first run.  May wait.  NULL:
   * columns are known after the first run. */
  mb_status (*describe)(mb_driver_stmt *stmt, mb_prepared *prepared,
      mb_result *result, mb_op *op, mb_error *error);
  /* Runs.  MB_ROW: rows follow, the shape is filled.  MB_DONE: it has ended,
   * the totals are filled.  n is the number of parameters of the statement.
   * params stay valid until the statement is finished, result until it is
   * finished or run again.  May wait. */
  mb_status (*execute)(mb_driver_stmt *stmt, const mb_value *params, size_t n,
      const mb_execute_options *options, mb_result *result, mb_op *op,
      mb_error *error);
  /* ? Runs once for each of rows groups of n parameters; rows that come back
   * are thrown away.  error->row counts from 1. Totals are the sums, last_id
   * the first.  May wait.  NULL: the core runs it row by row. */
  mb_status (*execute_many)(mb_driver_stmt *stmt, const mb_value *params,
      size_t n, size_t rows, mb_result *result, mb_op *op, mb_error *error);
  /* MB_ROW: row has n_columns values that live until the next call on the
   * statement.  MB_DONE: no more; totals are filled and the statement is
   * finished.  MB_ERROR ends the run as well.  May wait. */
  mb_status (*fetch)(
      mb_driver_stmt *stmt, mb_value *row, mb_op *op, mb_error *error);
  /* ? As fetch, up to max rows that own their bytes. */
  mb_status (*fetch_batch)(mb_driver_stmt *stmt, size_t max, mb_batch *batch,
      mb_op *op, mb_error *error);
  void (*release_batch)(mb_batch *batch);
  /* ? The next result of a CALL, answered as execute.  May wait. */
  mb_status (*next_result)(
      mb_driver_stmt *stmt, mb_result *result, mb_op *op, mb_error *error);
  /* Ends a run early (or one that has ended: nothing to do); the statement can
   * be run again.  Never changes what the statement did.  May wait. */
  mb_status (*finish)(
      mb_driver_stmt *stmt, mb_finish_mode mode, mb_op *op, mb_error *error);
  /* Frees the statement; what must be sent travels with the next request. */
  void (*close_statement)(mb_driver_stmt *stmt);

  /* TEXT */

  /* Runs one statement without parameters, ignoring rows.  May wait. */
  mb_status (*exec_text)(mb_driver_conn *conn, const char *sql, size_t size,
      mb_result *result, mb_op *op, mb_error *error);
  /* ? Runs with parameters and without preparing, in one trip; then as execute.
   * May wait.  NULL: the core prepares. */
  mb_status (*query_once)(mb_driver_conn *conn, const char *sql, size_t size,
      const mb_value *params, size_t n, mb_driver_stmt **out, mb_result *result,
      mb_op *op, mb_error *error);

  /* BATCH ? all or none.  Between begin and end, execute queues and answers
   * MB_DONE, done with the parameters; one statement may be queued several
   * times.  pipeline_next gives the results in order, answered as execute;
   * MB_DONE with *stmt NULL: none is left up to the sync.  After MB_ERROR the
   * entries up to the sync were not run, and are not given.  pipeline_end may
   * come at any time; what was not given is thrown away. */
  mb_status (*pipeline_begin)(mb_driver_conn *conn, mb_error *error);
  mb_status (*pipeline_sync)(mb_driver_conn *conn, mb_op *op, mb_error *error);
  mb_status (*pipeline_next)(mb_driver_conn *conn, mb_driver_stmt **stmt,
      mb_result *result, mb_op *op, mb_error *error);
  mb_status (*pipeline_end)(mb_driver_conn *conn, mb_op *op, mb_error *error);

  /* BULK ? all or none of a direction.  abort NULL ends well, else it is the
   * reason to undo the load, and MB_DONE says that this is done.  copy_out_get
   * answers MB_ROW with bytes that live until the next call, then MB_DONE.  end
   * fills the totals.  All may wait. */
  mb_status (*copy_in_begin)(mb_driver_conn *conn, const char *sql, size_t size,
      mb_op *op, mb_error *error);
  mb_status (*copy_in_put)(mb_driver_conn *conn, const char *data, size_t size,
      mb_op *op, mb_error *error);
  mb_status (*copy_in_end)(mb_driver_conn *conn, const char *abort,
      mb_result *result, mb_op *op, mb_error *error);
  mb_status (*copy_out_begin)(mb_driver_conn *conn, const char *sql,
      size_t size, mb_op *op, mb_error *error);
  mb_status (*copy_out_get)(mb_driver_conn *conn, const char **data,
      size_t *size, mb_op *op, mb_error *error);
  mb_status (*copy_out_end)(
      mb_driver_conn *conn, mb_result *result, mb_op *op, mb_error *error);

  /* TRANSACTION ? each.  NULL: the core sends the standard's SQL.  begin may
   * travel with the next request; rollback is called for a transaction that the
   * database has ended by itself too, and then only puts back what begin had
   * changed.  name is a plain identifier.  May wait. */
  mb_status (*begin)(mb_driver_conn *conn, const mb_begin *options, mb_op *op,
      mb_error *error);
  mb_status (*commit)(mb_driver_conn *conn, mb_op *op, mb_error *error);
  mb_status (*rollback)(mb_driver_conn *conn, mb_op *op, mb_error *error);
  mb_status (*savepoint)(
      mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);
  mb_status (*release_savepoint)(
      mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);
  mb_status (*rollback_to)(
      mb_driver_conn *conn, const char *name, mb_op *op, mb_error *error);

  /* CANCEL.  The handle exists from the first step of connect, has a lock of
   * its own, and outlives the connection (a cancel after close does nothing).
   * NULL when out of memory. */
  mb_driver_cancel *(*cancel_handle)(mb_driver_conn *conn);
  mb_status (*cancel)(mb_driver_cancel *handle, enum mb_cancel_level level,
      int64_t deadline_ns, mb_error *error);
  void (*release_cancel)(mb_driver_cancel *handle);

  /* SCHEMA ? each. */

  /* Rows that describe tables, columns, keys, indexes.  Answered as execute.
   * May wait. */
  mb_status (*describe_schema)(mb_driver_conn *conn, mb_driver_stmt **out,
      mb_result *result, mb_op *op, mb_error *error);
  /* Writes name, quoted, to out (of 2 * size + 3 bytes) and its length to
   * *written.  NULL: the core doubles capability.identifier_quote. */
  mb_status (*quote_identifier)(mb_driver_conn *conn, const char *name,
      size_t size, char *out, size_t *written, mb_error *error);

  /* SPECIFICS ? What only this database has, by name, so that this table does
   * not grow.  Answered as execute; *out stays NULL where there are no rows.
   * An unknown name is MB_UNSUPPORTED.  May wait. */
  mb_status (*command)(mb_driver_conn *conn, const char *name,
      const mb_value *values, size_t n, mb_driver_stmt **out, mb_result *result,
      mb_op *op, mb_error *error);

  /* ? The same for what needs no connection: no I/O, from any thread.  *result
   * is MB_NULL before; its bytes live as long as the connector. */
  mb_status (*control)(mb_driver_connector *connector, const char *name,
      const mb_value *values, size_t n, mb_value *result, mb_error *error);
} mb_driver;

#endif
