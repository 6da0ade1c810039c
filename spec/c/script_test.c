/* script_test.c: where a statement of a script ends. */
#include "../../src/core/script.h"

#include "check.h"
#include "dialects.h"

#include <sqlite3.h>
#include <stdlib.h>

/* Writes the statements of a text, a | between two. */
static void split(
    const mb_lexical *lexical, const char *text, char *out, size_t room)
{
  mb__script script;
  const char *start;
  size_t size;
  size_t line;
  size_t used = 0;
  out[0] = '\0';
  mb__script_open(&script, lexical, text, strlen(text));
  while (mb__script_next(&script, &start, &size, &line) == MB_ROW)
    used += (size_t)snprintf(out + used, room - used, "%s%.*s",
        used > 0 ? "|" : "", (int)size, start);
}

#define CHECK_SPLIT(lexical, text, expected)      \
  do {                                            \
    char found[2048];                             \
    split(&(lexical), text, found, sizeof found); \
    CHECK_STRING(found, expected);                \
  } while (0)

/* One statement, whatever semicolons are in it, and then another. */
#define CHECK_ONE(lexical, statement)                                       \
  do {                                                                      \
    CHECK_SPLIT(lexical, statement, statement);                             \
    CHECK_SPLIT(lexical, statement ";\n select 1;", statement "|select 1"); \
  } while (0)

static void splits_at_semicolons(void)
{
  for (size_t d = 0; d < N_DIALECTS; d++) {
    CHECK_SPLIT(*dialects[d], "a; b ;c", "a|b|c");
    CHECK_SPLIT(*dialects[d], ";; a ;; ; b;", "a|b");
    CHECK_SPLIT(*dialects[d], "", "");
    CHECK_SPLIT(*dialects[d], " \n;;", "");
    CHECK_SPLIT(*dialects[d], "select ';', a; b", "select ';', a|b");
    CHECK_SPLIT(
        *dialects[d], "/* ; */ a /* ; */ b -- ;\n; -- c", "a /* ; */ b");
  }
  CHECK_SPLIT(sqlite, "[;] `;`; a", "[;] `;`|a");
  CHECK_SPLIT(postgres, "$$;$$ E'\\';'; a", "$$;$$ E'\\';'|a");
  CHECK_SPLIT(mysql, "'\\';' \";\" # ;\n; a", "'\\';' \";\"|a");
  CHECK_SPLIT(mysql, "--it's\na; --; b\nc --;d", "a|c --|d");
  CHECK_SPLIT(plain, "create trigger a; end; b", "create trigger a|end|b");
}

static void takes_the_rest_of_what_is_not_ended(void)
{
  CHECK_SPLIT(sqlite, "a; 'b; c", "a|'b; c");
  CHECK_SPLIT(postgres, "a; $b$; c", "a|$b$; c");
  CHECK_SPLIT(postgres, "a; /* b; c", "a");
  CHECK_SPLIT(postgres, "a; (b; c", "a|(b; c");
  CHECK_SPLIT(mysql, "a; /*! b; c", "a|/*! b; c");
}

static void counts_lines(void)
{
  static const char text[] = "\n-- x\n  a\n;b;/*\n*/c\n;\n";
  static const size_t expected[] = {3, 4, 5};
  mb__script script;
  const char *start;
  size_t size;
  size_t line;
  mb__script_open(&script, &sqlite, text, strlen(text));
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    CHECK_INT(mb__script_next(&script, &start, &size, &line), MB_ROW);
    CHECK_INT(line, expected[i]);
    CHECK_INT(size, 1);
  }
  CHECK_INT(mb__script_next(&script, &start, &size, &line), MB_DONE);
  CHECK_INT(mb__script_next(&script, &start, &size, &line), MB_DONE);
}

static void skips_a_byte_order_mark(void)
{
  CHECK_SPLIT(sqlite,
      "\xEF\xBB\xBF"
      "a; b",
      "a|b");
  CHECK_SPLIT(mysql,
      "\xEF\xBB\xBF"
      "delimiter $\na; b$",
      "a; b");
  CHECK_SPLIT(postgres, "\xEF\xBB\xBF", "");
  CHECK_SPLIT(postgres, "\xEF\xBB", "\xEF\xBB");
}

static void tells_whether_there_is_more(void)
{
  size_t end;
  CHECK(!mb__script_has_more(&sqlite, "a;", 2, &end));
  CHECK_INT(end, 1);
  CHECK(!mb__script_has_more(&sqlite, " a ; -- b", 9, &end));
  CHECK_INT(end, 2);
  CHECK(mb__script_has_more(&sqlite, "a b;c", 5, &end));
  CHECK_INT(end, 3);
  CHECK(!mb__script_has_more(&sqlite, ";", 1, &end));
  CHECK_INT(end, 0);
  CHECK(!mb__script_has_more(&sqlite, NULL, 0, &end));
  CHECK(!mb__script_is_more(&sqlite, NULL, 0));
  CHECK(!mb__script_is_more(&sqlite, " ; -- x\n /* y */", 16));
  CHECK(mb__script_is_more(&sqlite, " ; -- x\n z", 10));
  CHECK(mb__script_is_more(&mysql, "/*! x */", 8));
}

/* --- SQLite ------------------------------------------------------------- */

#define TRIGGER "create trigger t after insert on a begin select 1; "

static void keeps_triggers_whole(void)
{
  CHECK_ONE(sqlite, TRIGGER "end");
  CHECK_ONE(sqlite, "CREATE TEMP TRIGGER x BEGIN a; b; END");
  CHECK_ONE(sqlite, "create temporary trigger x begin a; b; ; end");
  CHECK_ONE(sqlite, "explain query plan create trigger x begin a; end");
  CHECK_ONE(sqlite, TRIGGER "select case when 1 then 2 end; end");
  CHECK_ONE(sqlite, TRIGGER "/* ; end; */ end");
  CHECK_ONE(sqlite, TRIGGER "select ';', \"; end; \"; end");
  CHECK_SPLIT(sqlite, TRIGGER "end x; a", TRIGGER "end x; a");
  CHECK_SPLIT(
      sqlite, "create table trigger (a); b", "create table trigger (a)|b");
  CHECK_SPLIT(sqlite, "begin; a; end; b", "begin|a|end|b");
}

/* A text is complete when what comes behind it is a statement of its own. */
static bool is_complete(const char *text)
{
  char longer[512];
  mb__script script;
  const char *start;
  size_t size;
  size_t line;
  const int length = snprintf(longer, sizeof longer, "%s\nzz", text);
  mb__script_open(&script, &sqlite, longer, (size_t)length);
  while (mb__script_next(&script, &start, &size, &line) == MB_ROW)
    if (start == longer + length - 2)
      return true;
  return false;
}

static bool agrees_with_sqlite(const char *text)
{
  return CHECK_INT(is_complete(text), sqlite3_complete(text) != 0) ||
         CHECK_STRING(text, "");
}

/* All texts of up to six tokens.  The first semicolon makes sqlite3_complete
 * take the rest for complete when it is empty. */
static void agrees_with_sqlite_in_all_states(void)
{
  static const char *const pieces[] = {
      " ; ", " x ", " explain ", " create ", " temp ", " trigger ", " end "};
  const size_t n = sizeof pieces / sizeof *pieces;
  for (unsigned length = 0; length <= 6; length++) {
    size_t count = 1;
    for (unsigned i = 0; i < length; i++)
      count *= n;
    for (size_t which = 0; which < count; which++) {
      char text[128] = ";";
      size_t rest = which;
      for (unsigned i = 0; i < length; i++, rest /= n)
        (void)strcat(text, pieces[rest % n]);
      if (!agrees_with_sqlite(text))
        return;
    }
  }
}

/* Without SQLite's variables like #end or $x(;), of which sqlite3_complete does
 * not know. */
static void agrees_with_sqlite_on_many_texts(void)
{
  static const char *const pieces[] = {";", ";", ";", " ", " ", " ", "\n",
      "create ", "trigger ", "temp ", "TEMPORARY ", "explain", "end", "end",
      "Create", "TRIGGER", "end;", "; end ;", "create trigger ", "x", "1", "_",
      "$", "\xc3\xa4", "'", "\"", "`", "[", "]", "--", "/*", "*/", "/", "*",
      "-", ")", "?", ".", "''", "\\", "!", "\t", "\r", "\f"};
  const size_t n = sizeof pieces / sizeof *pieces;
  uint64_t state = 88172645463325252u;
  for (unsigned round = 0; round < 300000; round++) {
    char text[256] = ";";
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    uint64_t rest = state;
    for (unsigned i = 0; i < 2 + state % 9; i++, rest /= n)
      (void)strcat(text, pieces[rest % n]);
    if (!agrees_with_sqlite(text))
      return;
  }
}

/* --- PostgreSQL --------------------------------------------------------- */

#define ATOMIC "create function f() returns int language sql begin atomic "

static void keeps_atomic_bodies_whole(void)
{
  CHECK_ONE(postgres, ATOMIC "select 1; select 2; end");
  CHECK_ONE(postgres, "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC a; END");
  CHECK_ONE(postgres, ATOMIC "select case when a then b end; c; end");
  CHECK_ONE(postgres, ATOMIC "select (case when a then (b) end); c; end");
  CHECK_ONE(postgres, ATOMIC "begin atomic a; end; b; end");
  CHECK_ONE(postgres, ATOMIC "select 1 as end, t.case; b; end");
  CHECK_ONE(postgres, "create function begin() as $$begin; end$$");
  CHECK_ONE(postgres, "create rule r as on insert to t do (a; b)");
  CHECK_SPLIT(postgres, "begin; a; end; b", "begin|a|end|b");
  CHECK_SPLIT(postgres, "create table atomic (begin int); b",
      "create table atomic (begin int)|b");
  CHECK_SPLIT(postgres, "create view f as begin atomic a; b",
      "create view f as begin atomic a|b");
}

/* --- MySQL and MariaDB -------------------------------------------------- */

#define PROCEDURE "create procedure p(in a int, out b varchar(10)) "

static void keeps_blocks_whole(void)
{
  CHECK_ONE(mysql, PROCEDURE "begin a; b; end");
  CHECK_ONE(mysql,
      PROCEDURE "comment 'x' language sql not deterministic "
                "reads sql data sql security invoker begin a; end");
  CHECK_ONE(mysql, PROCEDURE "x: begin a; y: begin b; end y; end x");
  CHECK_ONE(mysql, PROCEDURE "x:begin a; end x");
  CHECK_ONE(mysql, PROCEDURE "`x`: begin a; end `x`");
  CHECK_ONE(mysql, PROCEDURE "begin end");
  CHECK_ONE(
      mysql, "CREATE DEFINER=`root`@`localhost` PROCEDURE p() BEGIN a; END");
  CHECK_ONE(mysql, "create definer = event@localhost function f() returns int "
                   "begin return 1; end");
  CHECK_ONE(mysql, "create or replace definer=current_user() function "
                   "if not exists f() returns varchar(10) charset utf8mb4 "
                   "deterministic begin a; end");
  CHECK_ONE(mysql, "create aggregate function f(x int) returns int "
                   "begin loop fetch group next row; end loop; end");
  CHECK_ONE(mysql, "create event e on schedule every 1 day do begin a; end");
  CHECK_ONE(mysql, "alter event e do begin a; b; end");
  CHECK_ONE(mysql, "create trigger t before insert on a for each row "
                   "follows begin begin a; end");
  CHECK_ONE(mysql, "begin not atomic a; b; end");
}

static void keeps_statements_whole(void)
{
  CHECK_ONE(mysql, PROCEDURE "if a then b; elseif c then d; else e; end if");
  CHECK_ONE(mysql, PROCEDURE "case a when 1 then b; else begin end; end case");
  CHECK_ONE(mysql, PROCEDURE "x: loop a; leave x; end loop x");
  CHECK_ONE(mysql, PROCEDURE "while a do b; end while");
  CHECK_ONE(mysql, PROCEDURE "repeat a; until b end repeat");
  CHECK_ONE(mysql, PROCEDURE "for i in 1..3 do a; end for");
  CHECK_ONE(mysql, "create trigger t before insert on a for each row "
                   "if new.a < 0 then set new.a = 0; end if");
  CHECK_ONE(
      mysql, "create function f() returns int if a then return 1; end if");
  CHECK_ONE(mysql, "if a then b; end if");
  CHECK_ONE(mysql,
      PROCEDURE "begin if a then if exists (select 1) then b; end if; end if; "
                "while a do repeat b; until c end repeat; end while; "
                "case when a then b; end case; end");
}

static void knows_expressions(void)
{
  CHECK_ONE(mysql, PROCEDURE "set a = if(b, 1, 2)");
  CHECK_ONE(mysql, PROCEDURE "select case when a then if(b, 1, 2) end");
  CHECK_ONE(mysql, PROCEDURE "truncate table a");
  CHECK_ONE(mysql, PROCEDURE "drop table if exists a");
  CHECK_ONE(mysql, PROCEDURE "(select 1)");
  CHECK_ONE(mysql, "create function f() returns int deterministic "
                   "return case when a then b else if(c, 1, 2) end");
  CHECK_ONE(mysql, "create function f() returns int return if(a, 1, 2)");
  CHECK_ONE(mysql, "create function f returns string soname 'x.so'");
  CHECK_ONE(mysql, PROCEDURE "begin update t set end = 1, begin = 2; "
                             "select t.end, repeat('a', 3) from t; b; end");
  CHECK_ONE(mysql, PROCEDURE "begin select case a when 1 then case b when 2 "
                             "then 3 end end; do sleep(1); c; end");
  CHECK_ONE(mysql, PROCEDURE "begin select end from a; b; end");
}

static void knows_handlers(void)
{
  CHECK_ONE(mysql, PROCEDURE "begin declare exit handler for sqlexception "
                             "begin rollback; end; a; end");
  CHECK_ONE(mysql, PROCEDURE
      "begin declare continue handler for not found, sqlstate value '23000', "
      "1062, gone set a = if(b, 1, 2); c; end");
  CHECK_ONE(mysql, PROCEDURE "begin declare undo handler for sqlstate '1' "
                             "if a then b; end if; c; end");
  CHECK_ONE(mysql,
      PROCEDURE "begin declare continue handler for sqlwarning "
                "begin end; declare c cursor for select 1; d; end");
}

static void keeps_packages_whole(void)
{
  CHECK_ONE(mysql, "create or replace package p as function f return int; "
                   "procedure q(a int); end");
  CHECK_ONE(mysql, "create package body p as x int := 1; "
                   "function f return int as y int; begin return y; end; "
                   "procedure q(a int) is begin a; if b then c; end if; end q; "
                   "begin d; end");
  CHECK_ONE(mysql, "create package body p declare v int default 1; "
                   "procedure q() begin a; end; function f() returns int "
                   "return 1; function g() returns int begin b; end; set v=2; "
                   "end");
  CHECK_ONE(mysql, "create procedure p as x int; begin a; <<l>> loop b; "
                   "end loop; exception when others then c; end");
  CHECK_ONE(mysql, "create function f(a int) return int is begin for i in "
                   "1..2 loop if a then b; end if; end loop; end");
  CHECK_ONE(mysql, "create function f() returns int language javascript as "
                   "'return 1;'");
}

static void knows_what_has_no_body(void)
{
  CHECK_SPLIT(mysql, "create table event (begin int, end int); a",
      "create table event (begin int, end int)|a");
  CHECK_SPLIT(mysql, "begin; a; commit; b", "begin|a|commit|b");
  CHECK_SPLIT(mysql, "drop procedure p; a", "drop procedure p|a");
  CHECK_SPLIT(mysql, "create view v as select case when a then b end; c",
      "create view v as select case when a then b end|c");
  CHECK_SPLIT(mysql, "xa end 'x'; a", "xa end 'x'|a");
  CHECK_SPLIT(mysql, "alter procedure p comment 'x'; a",
      "alter procedure p comment 'x'|a");
}

static void knows_versioned_comments(void)
{
  CHECK_ONE(mysql, "/*!40101 SET NAMES utf8 */");
  CHECK_ONE(mysql, "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`%`*/ "
                   "/*!50003 TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN "
                   "a; b; END */");
  CHECK_ONE(mysql, "/*! a; b */");
}

static void follows_delimiter_lines(void)
{
  CHECK_SPLIT(mysql, "a; delimiter //\nb; c//\nd;// DELIMITER ;\ne; f",
      "a|b; c|d;|e|f");
  CHECK_SPLIT(mysql, "delimiter ;;\n a; b ;;\n;; c;;", "a; b|c");
  CHECK_SPLIT(mysql, "DELIMITER $$\nbegin a; END$$\nb$$c", "begin a; END|b|c");
  CHECK_SPLIT(
      mysql, "delimiter go x\r\na; b\r\ngo\r\ncategory; go", "a; b|category;");
  CHECK_SPLIT(mysql, "delimiter '//'\na;//b", "a;|b");
  CHECK_SPLIT(mysql, "delimiter // -- rest; //\na;//", "a;");
  CHECK_SPLIT(
      mysql, "delimiter //\n'//' /* // */ `//`; //a", "'//' /* // */ `//`;|a");
  CHECK_SPLIT(mysql, "delimiter //\n/*!50000 a// */ //b", "/*!50000 a// */|b");
  CHECK_SPLIT(mysql, "delimiter //", "");
  CHECK_SPLIT(mysql, "a;\n-- x\ndelimiter |\n/* y */ b;|", "a|b;");
  /* Nothing that the client would take. */
  CHECK_SPLIT(mysql, "delimiter\n; a", "delimiter|a");
  CHECK_SPLIT(mysql, "delimiter ; a; b", "");
  CHECK_SPLIT(mysql, "select delimiter //\n; a", "select delimiter //|a");
  CHECK_SPLIT(
      mysql, "delimiter 0123456789abcdef\n; a", "delimiter 0123456789abcdef|a");
  CHECK_SPLIT(sqlite, "delimiter //\n; a", "delimiter //|a");
}

/* --- All ---------------------------------------------------------------- */

/* A large text of one piece, in a time that grows with its size only. */
static size_t count_statements(
    const mb_lexical *lexical, const char *piece, size_t n)
{
  const size_t length = strlen(piece);
  char *text = check_repeat(piece, n);
  mb__script script;
  const char *start;
  size_t size;
  size_t line;
  size_t count = 0;
  mb__script_open(&script, lexical, text, n * length);
  while (mb__script_next(&script, &start, &size, &line) == MB_ROW)
    count++;
  free(text);
  return count;
}

static void takes_large_texts(void)
{
  CHECK_INT(count_statements(&sqlite, "a;\n", 1000000), 1000000);
  CHECK_INT(count_statements(&sqlite, "create trigger;", 300000), 1);
  CHECK_INT(count_statements(&postgres, "(;", 2000000), 1);
  CHECK_INT(count_statements(&postgres, "/*;", 1000000), 0);
  CHECK_INT(count_statements(&mysql, "begin not atomic;", 200000), 1);
  CHECK_INT(count_statements(&mysql, "if a then;", 300000), 1);
  CHECK_INT(count_statements(&mysql, "delimiter $$\na$", 300000), 300000);
  CHECK_INT(count_statements(&mysql, "delimiter a\na ", 300000), 0);
}

static const struct check_test tests[] = {
    CHECK_TEST(splits_at_semicolons),
    CHECK_TEST(takes_the_rest_of_what_is_not_ended),
    CHECK_TEST(counts_lines),
    CHECK_TEST(skips_a_byte_order_mark),
    CHECK_TEST(tells_whether_there_is_more),
    CHECK_TEST(keeps_triggers_whole),
    CHECK_TEST(agrees_with_sqlite_in_all_states),
    CHECK_TEST(agrees_with_sqlite_on_many_texts),
    CHECK_TEST(keeps_atomic_bodies_whole),
    CHECK_TEST(keeps_blocks_whole),
    CHECK_TEST(keeps_statements_whole),
    CHECK_TEST(knows_expressions),
    CHECK_TEST(knows_handlers),
    CHECK_TEST(keeps_packages_whole),
    CHECK_TEST(knows_what_has_no_body),
    CHECK_TEST(knows_versioned_comments),
    CHECK_TEST(follows_delimiter_lines),
    CHECK_TEST(takes_large_texts),
};

int main(void)
{
  return CHECK_RUN(tests);
}
