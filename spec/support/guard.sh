#!/bin/sh
# Lives as long as the program that started it, whatever ends that: then stops the
# servers of a folder and removes it.
#
#   guard.sh FOLDER
#
# The program holds the other end of the standard input.  A server is a file NAME.pid,
# or */postmaster.pid, with its number in the first line.
trap '' INT TERM HUP
folder=$1

read_pid() {
  read -r pid <"$1" && [ "$pid" -gt 1 ]
}

cat >/dev/null

for file in "$folder"/*/postmaster.pid "$folder"/*.pid; do
  [ -e "$file" ] || continue
  # At once, and without leaving shared memory behind.
  read_pid "$file" && kill -QUIT "$pid"
done 2>/dev/null
for file in "$folder"/*/postmaster.pid "$folder"/*.pid; do
  [ -e "$file" ] || continue
  turns=0
  while read_pid "$file" && kill -0 "$pid" && [ $turns -lt 100 ]; do
    turns=$((turns + 1))
    sleep 0.05
  done
  [ $turns -lt 100 ] || kill -KILL "$pid"
done 2>/dev/null
rm -rf "$folder"
